"""The pages for those who run it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.admin import Admin
from cyclone_sse.options import with_defaults
from tests.unit.fakes import FakeClient


class Service:
    """As much of the service as is known there."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.broker = HttpBroker({}, reactor=self.reactor)
        self.settings = with_defaults({"admin-port": 8889})
        self.tls = None
        self.application: Any = self
        self.reasons: list[str] = []

    def not_ready(self) -> list[str]:
        return self.reasons

    def connection_count(self) -> int:
        return 3


@pytest.fixture
def service() -> Service:
    return Service()


def get(service: Service, path: str) -> tuple[int, bytes]:
    """Status and body of the answer."""
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = transport.value().partition(b"\r\n\r\n")
    channel.connectionLost(None)
    return int(head.split()[1]), body


def test_it_works_as_long_as_it_answers(service: Service) -> None:
    service.reasons = ["draining"]
    assert get(service, "/healthz")[0] == 200


def test_it_is_ready_unless_there_is_a_reason(service: Service) -> None:
    assert get(service, "/readyz")[0] == 200
    service.reasons = ["draining", "the broker is away"]
    status, body = get(service, "/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, service.reasons)


def test_figures_and_channels_are_those_of_the_moment(service: Service) -> None:
    FakeClient(service.broker).listen("a")
    assert json.loads(get(service, "/stats")[1]) == [["a", 1]]
    figures = get(service, "/metrics")[1].decode()
    assert "cyclone_sse_connections 3.0" in figures
    assert "cyclone_sse_subscribers 1.0" in figures


# Twisted's own resource for what is not there warns of itself
@pytest.mark.filterwarnings("ignore:twisted.web.resource._UnsafeNoResource:DeprecationWarning")
def test_there_is_nothing_else(service: Service) -> None:
    assert get(service, "/publish")[0] == 404
