"""The pages for those who run it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from cyclone_sse import __version__
from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.admin import Admin
from cyclone_sse.daemon.admin_resource import BODY_MAX
from cyclone_sse.daemon.metrics import Sources
from cyclone_sse.options import with_defaults
from tests.unit.fakes import FakeClient


class Service:
    """As much of the service as is known there."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.broker = HttpBroker({}, reactor=self.reactor)
        self.settings = with_defaults({"admin-port": 8889})
        self.application: Any = self
        self.reasons: list[str] = []

    def not_ready(self) -> list[str]:
        return self.reasons

    def sources(self) -> Sources:
        return Sources(self.broker, connections=lambda: 3)


@pytest.fixture
def service() -> Service:
    return Service()


def get(service: Service, path: str, host: str = "127.0.0.1:8889") -> tuple[int, bytes]:
    """Status and body of the answer."""
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = transport.value().partition(b"\r\n\r\n")
    channel.connectionLost(None)
    return int(head.split()[1]), body


def test_it_works_as_long_as_it_answers(service: Service) -> None:
    service.reasons = ["draining"]
    status, body = get(service, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok", "version": __version__})


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


def test_what_monitoring_asks_is_answered_under_any_name(service: Service) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/stats", 403)):
        assert get(service, path, "sse-1.cluster.local:8889")[0] == status


@pytest.mark.parametrize(
    "head", [f"Content-Length: {BODY_MAX + 1}", "Content-Length: 10000000000", "Transfer-Encoding: chunked"]
)
def test_a_long_body_is_refused(service: Service, head: str) -> None:
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(f"POST /disconnect?user=a HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
    part = b"a" * 1000
    for _ in range(BODY_MAX // 1000 + 2):
        channel.dataReceived(b"3e8\r\n%b\r\n" % part if "chunked" in head else part)
    if "chunked" in head:
        channel.dataReceived(b"0\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.value().count(b"HTTP/") == 1
    assert transport.disconnecting
    channel.connectionLost(None)


def test_a_short_body_is_ignored(service: Service) -> None:
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(
        b"POST /disconnect?user=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na=b"
    )
    assert transport.value().startswith(b"HTTP/1.1 200 ")
    channel.connectionLost(None)
