"""The operator's page: to whom it answers, and what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.admin import Admin
from cyclone_sse.daemon.metrics import Sources
from cyclone_sse.daemon.operator_page import is_own_host
from cyclone_sse.options import with_defaults
from tests.unit.delivery.clients import Recorder, turns
from tests.unit.fakes import TurnClock

GONE = Failure(ConnectionDone())


class Service:
    """As much of the service as the page knows."""

    def __init__(self) -> None:
        self.reactor = TurnClock()
        self.broker = HttpBroker({}, reactor=self.reactor)
        self.settings = with_defaults({"admin-port": 8889, "workers": 2})
        self.application: Any = self

    def not_ready(self) -> list[str]:
        return []

    def sources(self) -> Sources:
        return Sources(self.broker, connections=lambda: 3)

    def subscribe(self, user: str | None, *channels: str) -> Recorder:
        client = Recorder()
        client.user, client.address = user, "192.0.2.1"
        self.broker.hub.subscribe(client, channels)
        return client


@pytest.fixture
def service() -> Service:
    return Service()


def request(service: Service, target: str, *headers: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, head and body of the answer."""
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    lines = [f"{method} {target} HTTP/1.0", *(headers or ["Host: 127.0.0.1:8889"]), "", ""]
    channel.dataReceived("\r\n".join(lines).encode())
    turns(service.reactor)
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    channel.connectionLost(GONE)
    return int(head.split()[1]), head, body


@pytest.mark.parametrize(
    "path", ["/", "/operator.js", "/operator.css", "/figures", "/connections?user=42", "/stats"]
)
def test_it_answers_to_its_own_host_only(service: Service, path: str) -> None:
    assert request(service, path)[0] == 200
    assert request(service, path, "Host: evil.example:8889")[0] == 403
    assert request(service, path, "Host: 127.0.0.1:8889", "Origin: http://evil.example")[0] == 403
    assert request(service, path, "Host: 127.0.0.1:8889", "Origin: http://[")[0] == 403
    assert request(service, path, "Host: 127.0.0.1:8889", "Origin: null")[0] == 403
    status, head, _ = request(service, path, "Host: 127.0.0.1:8889", "Origin: http://127.0.0.1:8890")
    assert (status, "Access-Control-Allow-Origin: http://127.0.0.1:8890" in head) == (200, True)


def test_a_page_that_does_not_read_is_sent_no_more_figures(service: Service) -> None:
    transport = StringTransport()
    channel: Any = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /figures HTTP/1.1\r\nHost: 127.0.0.1:8889\r\n\r\n")
    service.reactor.advance(1)
    assert transport.value().count(b"data: ") == 2
    producer: Any = transport.producer
    producer.pauseProducing()
    service.reactor.pump([1] * 60)
    assert transport.value().count(b"data: ") == 2
    producer.resumeProducing()
    service.reactor.advance(1)
    assert transport.value().count(b"data: ") == 3
    channel.connectionLost(GONE)
    service.reactor.advance(1)
    assert transport.value().count(b"data: ") == 3


def test_health_answers_to_every_host(service: Service) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert request(service, path, "Host: sse1:8889")[0] == 200


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("localhost:8889", True),
        ("127.0.0.1:8889", True),
        ("[::1]:8889", True),
        ("10.0.0.7", True),
        ("sse1:8889", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[", False),
        ("[evil.example]", False),
    ],
)
def test_own_hosts(host: str, own: bool) -> None:
    assert is_own_host(host, {"sse1"}) is own


@pytest.mark.parametrize(
    "line", ["Host: [", "Host: [sse1]", "Host: \xff", "Host: \u2100", "Host: 127.0.0.1\r\nOrigin: http://["]
)
def test_a_malformed_host_is_refused_on_every_path(service: Service, line: str) -> None:
    for path in ("/", "/stats", "/figures", "/disconnect"):
        assert request(service, path, line)[0] == 403


def test_a_head_of_the_figures_ends(service: Service) -> None:
    _, head, body = request(service, "/figures", method="HEAD")
    assert ("Content-Type: text/event-stream" in head, body) == (True, "")
    assert not service.reactor.getDelayedCalls()
    assert request(service, "/disconnect?user=42", method="HEAD")[0] == 405


def test_the_page_needs_nothing_from_outside(service: Service) -> None:
    _, head, body = request(service, "/")
    assert "default-src 'none'" in head
    assert "http" not in body.replace("http-equiv", "")


def test_the_figures_come_as_a_stream(service: Service) -> None:
    service.subscribe("42", "room", "user-42")
    service.reactor.advance(1)
    _, head, body = request(service, "/figures")
    assert "Content-Type: text/event-stream" in head
    figures = json.loads(body.removeprefix("data: "))
    assert (figures["subscribers"], figures["channels"], figures["ports"]) == (1, 2, [8889, 8890])


def test_the_largest_channels_are_found(service: Service) -> None:
    for number in range(30):
        service.subscribe(None, "room", f"user-{number}")
    transport = StringTransport()
    channel = Admin(service).site().buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /figures HTTP/1.0\r\nHost: localhost\r\n\r\n")
    service.reactor.pump([0.1] * 12)
    last = json.loads(transport.value().decode().rstrip().rpartition("data: ")[2])
    assert last["top"][0] == ["room", 30]
    assert len(last["top"]) == 10
    channel.connectionLost(GONE)


def test_the_streams_of_a_user_or_a_channel(service: Service) -> None:
    service.subscribe("42", "room")
    service.subscribe("42", "other")
    service.subscribe("43", "room")
    by_user = json.loads(request(service, "/connections?user=42")[2])
    assert by_user["total"] == 2
    assert by_user["streams"][0].keys() == {
        "user",
        "address",
        "channels",
        "since",
        "waiting_bytes",
        "last_id",
    }
    assert json.loads(request(service, "/connections?channel=room")[2])["total"] == 2
    both = json.loads(request(service, "/connections?channel=room&user=43")[2])
    assert (both["total"], both["streams"][0]["address"]) == (1, "192.0.2.1")
    assert json.loads(request(service, "/connections?channel=none")[2]) == {"total": 0, "streams": []}
    assert request(service, "/connections")[0] == 400


def test_a_long_answer_is_cut_and_says_so(service: Service) -> None:
    for _ in range(5000):
        service.subscribe("42", "room")
    answer = json.loads(request(service, "/connections?user=42")[2])
    assert (answer["total"], len(answer["streams"])) == (5000, 500)


def test_streams_are_ended(service: Service) -> None:
    client, other = service.subscribe("42", "room"), service.subscribe("43", "room")
    assert request(service, "/disconnect?user=42")[0] == 405
    assert request(service, "/disconnect", method="POST")[0] == 400
    form = ("Host: localhost", "Sec-Fetch-Site: cross-site")
    assert request(service, "/disconnect?user=42", *form, method="POST")[0] == 403
    assert client.ending is None
    status, _, body = request(service, "/disconnect?user=42", method="POST")
    assert (status, json.loads(body)) == (200, {"streams": 1})
    assert client.ending is not None
    assert other.ending is None
