"""Subscribe, publish, stats: through a real application and connection, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from cyclone.web import Application, HTTPError
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cyclone_sse.brokers import Broker, BrokerUnavailable, HttpBroker
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler
from cyclone_sse.http.connection import Connection
from cyclone_sse.http.limits import Connections
from tests.integration.clients import Parser
from tests.unit.fakes import TurnClock


class Site:
    """An application with these settings and handlers, and its clients."""

    def __init__(
        self,
        settings: dict[str, Any] | None = None,
        subscribe: type[BroadcastHandler] = BroadcastHandler,
        broker: type[HttpBroker] = HttpBroker,
    ) -> None:
        self.clock = TurnClock()
        self.app = Application([(r"/", subscribe), (r"/publish", PublishHandler), (r"/stats", StatsHandler)])
        self.app.broker = broker(settings or {}, reactor=self.clock)
        self.app.protocol = partial(Connection, Connections(settings or {}, self.clock))

    def request(self, method: str, target: str, *headers: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Status, head and body of the response; of a stream, what there is of it so far."""
        transport = self.connect(method, target, *headers, body=body)
        head, _, content = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), content

    @property
    def broker(self) -> HttpBroker:
        """What the handlers share."""
        return self.app.broker  # type: ignore[no-any-return]

    def connect(
        self, method: str, target: str, *headers: str, body: bytes = b"", turn: bool = True
    ) -> StringTransport:
        transport = StringTransport()
        connection = self.app.buildProtocol(None)
        connection.makeConnection(transport)
        length = [f"Content-Length: {len(body)}"] if body else []
        lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers, *length, "", ""]
        connection.dataReceived("\r\n".join(lines).encode() + body)
        if turn:
            self.turn()
        transport.connection = connection  # type: ignore[attr-defined]
        return transport

    def turn(self) -> None:
        for _ in range(5):
            self.clock.turn()

    def publish(self, channel: str, message: str) -> int:
        form = urlencode({"channel": channel, "message": message}).encode()
        return self.request("POST", "/publish", FORM, body=form)[0]


FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json; charset=utf-8"
GONE = Failure(ConnectionDone())
POLL = "X-Requested-With: XMLHttpRequest"


def data_of(transport: StringTransport) -> list[str]:
    return [event.data for event in Parser().feed(transport.value().partition(b"\r\n\r\n")[2])]


def test_the_head_of_a_stream() -> None:
    status, head, body = Site().request("GET", "/?channels=a")
    assert status == 200
    for line in (
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache",
        "Connection: keep-alive",
        "Access-Control-Allow-Origin: *",
        "X-Accel-Buffering: no",
    ):
        assert f"\r\n{line}" in head
    assert "Content-Length" not in head
    assert "Transfer-Encoding" not in head
    assert body == b"\n\n"


def test_retry_is_said_at_the_start() -> None:
    times = set()
    for _ in range(20):
        body = Site({"retry": 1500}).request("GET", "/?channels=a")[2]
        times.add(int(body.removeprefix(b"\n\nretry: ")))
    assert all(750 <= time <= 2250 for time in times)
    assert len(times) > 10, "each client is told another time"


def test_only_a_browser_gets_an_id_before_any_event() -> None:
    _, head, body = Site().request("GET", "/?channels=a", "Sec-Fetch-Mode: cors")
    position = head.partition("Last-Event-ID: ")[2].split("\r\n")[-1]
    assert body == b"\n\nid: %s\n\n" % position.encode()


@pytest.mark.parametrize("target", ["/", "/?channels=", "/?channel=a", "/?other"])
def test_without_a_channel_there_is_no_stream(target: str) -> None:
    status, _, body = Site().request("GET", target)
    assert status == 400
    assert json.loads(body)["status"] == "error"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_get_opens_a_stream(method: str) -> None:
    status, head, _ = Site().request(method, "/?channels=a")
    assert status == 405
    assert "\r\nAllow: GET, HEAD, OPTIONS" in head


@pytest.mark.parametrize("path", ["/", "/publish", "/stats"])
def test_options(path: str) -> None:
    status, head, body = Site().request("OPTIONS", path)
    assert (status, body) == (204, b"")
    assert "\r\nAllow: " in head
    assert "Access-Control-Allow-Methods" not in head, "this is no preflight"
    assert "Content-Length" not in head
    asked = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
    _, head, _ = Site().request("OPTIONS", path, *asked)
    assert "Access-Control-Allow-Methods: " in head
    assert "Access-Control-Allow-Headers: Authorization, " in head


def test_head_of_a_stream_is_that_of_get() -> None:
    def names(head: str) -> set[str]:
        return {line.partition(":")[0] for line in head.split("\r\n")[1:]}

    site = Site()
    status, head, body = site.request("HEAD", "/?channels=a")
    assert (status, body) == (200, b"")
    assert names(head) == names(site.request("GET", "/?channels=a")[1]) - {"Last-Event-ID"}
    assert site.request("HEAD", "/")[0] == 400


def test_cors_with_a_list_of_origins() -> None:
    site = Site({"cors-origin": ["https://a.example", "https://b.example"]})
    _, head, _ = site.request("GET", "/?channels=a", "Origin: https://b.example")
    assert "Access-Control-Allow-Origin: https://b.example" in head
    assert "Access-Control-Allow-Credentials: true" in head
    assert "Vary: Origin" in head
    for headers in ([], ["Origin: https://evil.example"]):
        _, head, _ = site.request("GET", "/?channels=a", *headers)
        assert "Access-Control-Allow-Origin" not in head
        assert "Vary: Origin" in head


def deny(self: BroadcastHandler) -> bool:
    return False


def later(self: BroadcastHandler) -> Deferred[bool]:
    d: Deferred[bool] = Deferred()
    self.broker.reactor.callLater(0, d.callback, False)
    return d


async def coroutine(self: BroadcastHandler) -> bool:
    return False


def forbid(self: BroadcastHandler) -> bool:
    raise HTTPError(403)


def fail(self: BroadcastHandler) -> bool:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("authorize", "status", "bugs"),
    [(deny, 401, 0), (later, 401, 0), (coroutine, 401, 0), (forbid, 403, 0), (fail, 500, 1)],
)
def test_authorize_refuses(
    authorize: Callable[[Any], Any], status: int, bugs: int, failures: list[Any]
) -> None:
    handler = type("Guarded", (BroadcastHandler,), {"authorize": authorize})
    site = Site(subscribe=handler)
    assert site.request("GET", "/?channels=a")[0] == status
    assert site.app.broker.stats() == []
    assert len(failures) == bugs


def test_a_client_that_leaves_while_authorize_thinks_is_never_bound() -> None:
    answer: Deferred[bool] = Deferred()
    handler = type("Slow", (BroadcastHandler,), {"authorize": lambda self: answer})
    site = Site(subscribe=handler)
    transport = site.connect("GET", "/?channels=a")
    transport.connection.connectionLost(GONE)  # type: ignore[attr-defined]
    answer.callback(True)
    assert site.app.broker.stats() == []


def test_sendevent_of_a_subclass_makes_every_event() -> None:
    class Loud(BroadcastHandler):
        def sendEvent(self, message: Any, event: Any = None, eid: Any = None, retry: Any = None) -> None:
            super().sendEvent(message.upper(), "shout", eid, retry)

    site = Site(subscribe=Loud)
    site.publish("a", "before\r\nhand")
    transport = site.connect("GET", "/?channels=a&lastEventId=earliest")
    site.publish("a", "live")
    assert data_of(transport) == ["BEFORE\nHAND", "LIVE"]
    assert transport.value().count(b"event: shout\n") == 2


def test_bind_and_unbind_of_a_subclass_are_told() -> None:
    told = []

    class Told(BroadcastHandler):
        def bind(self) -> None:
            self.sendEvent({"hello": 1})
            super().bind()
            told.append(self.get_cookie("who"))

        def unbind(self) -> None:
            super().unbind()
            told.append(self.get_cookie("who"))

    site = Site(subscribe=Told)
    transport = site.connect("GET", "/?channels=a", "Cookie: who=ann")
    site.publish("a", "x")
    assert data_of(transport) == ['{"hello": 1}', "x"]
    transport.connection.connectionLost(GONE)  # type: ignore[attr-defined]
    assert told == ["ann", "ann"]


@given(message=st.text(min_size=1), channel=st.text(min_size=1), as_json=st.booleans())
def test_any_text_arrives(message: str, channel: str, as_json: bool) -> None:
    site = Site()
    transport = site.connect("GET", f"/?channels={quote(channel, safe='')}")
    if as_json:
        body = json.dumps({"channel": channel, "message": message}).encode()
        status = site.request("POST", "/publish", JSON, body=body)[0]
    else:
        status = site.publish(channel, message)
    assert status == 200
    assert data_of(transport) == [message.replace("\r\n", "\n").replace("\r", "\n")]


def polled(transport: StringTransport) -> tuple[str, list[str]]:
    """The id to come back with, and the data of the events, of the answer to a long poll."""
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert int(fields["Content-Length"]) == len(body.encode())
    assert body.startswith("\n\n")
    assert fields["Last-Event-ID"]
    parser = Parser()
    events = parser.feed(body.encode())
    assert not transport.disconnecting, "the connection is kept for the next poll"
    return parser.last_id or fields["Last-Event-ID"], [event.data for event in events]


def test_long_polling_ends_after_one_event_and_loses_none_between() -> None:
    site = Site()
    transport = site.connect("GET", "/?channels=a", POLL)
    assert transport.value() == b""
    for number in range(4):
        site.publish("a", str(number))
    position, got = polled(transport)
    for _ in range(3):
        transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
        position, data = polled(transport)
        got += data
    assert got == ["0", "1", "2", "3"]
    waiting = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    assert waiting.value() == b""
    site.publish("a", "4")
    assert polled(waiting)[1] == ["4"]


def test_a_batch_of_all_that_was_missed_where_it_is_wanted() -> None:
    site = Site({"poll-batch": True})
    position = site.broker.position()
    for number in range(3):
        site.publish("a", str(number))
    transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    assert polled(transport)[1] == ["0", "1", "2"]


def test_a_poll_that_missed_several_is_not_given_what_comes_instead_of_them() -> None:
    site = Site()
    position = site.broker.position()
    for number in range(3):
        site.publish("a", str(number))
    seen = []
    for number in range(3, 6):
        transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}", turn=False)
        site.publish("a", str(number))
        position, data = polled(transport)
        seen += data
    assert seen == ["0", "1", "2"]


def test_a_poll_of_a_custom_application_that_leaves_events_out_goes_on_with_the_next() -> None:
    class Even(BroadcastHandler):
        def sendEvent(self, message: Any, *args: Any, **kwargs: Any) -> None:
            if int(message) % 2 == 0:
                super().sendEvent(message, *args, **kwargs)

    site = Site(subscribe=Even)
    position = site.broker.position()
    for number in (1, 3, 4, 5):
        site.publish("a", str(number))
    transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    position, data = polled(transport)
    assert data == ["4"]
    transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    site.publish("a", "7")
    assert transport.value() == b""
    site.publish("a", "8")
    assert polled(transport)[1] == ["8"]


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (400, FORM, b""),
        (400, FORM, b"channel=a"),
        (400, FORM, b"message=a"),
        (400, FORM, b"channel=&message=a"),
        (400, FORM, b"channel=a&message="),
        (400, JSON, b"{"),
        (400, JSON, b"[" * 100000),
        (400, JSON, b"[1]"),
        (400, JSON, b'{"channel": "a"}'),
        (400, JSON, b'{"channel": 1, "message": "a"}'),
        (400, JSON, b'{"channel": ["a", null], "message": "a"}'),
        (400, JSON, b'{"channel": "a", "message": {"b": 1}}'),
        (400, JSON, b'{"channel": "a", "message": "\\ud800"}'),
        (400, "Content-Type: text/plain", b"channel=a&message=b"),
        (200, JSON, b'{"channel": ["a", "b"], "message": "x"}'),
        (200, FORM, b"channel=a&channel=b&message=x"),
        (
            200,
            "Content-Type: multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="channel"\r\n\r\na\r\n'
            b'--B\r\nContent-Disposition: form-data; name="message"\r\n\r\n x\r\n\r\n--B--\r\n',
        ),
    ],
)
def test_publish_takes_what_is_complete(status: int, kind: str, body: bytes, failures: list[Any]) -> None:
    answer, head, content = Site().request("POST", "/publish", kind, body=body)
    assert answer == status
    assert "Content-Type: application/json" in head
    if status == 200:
        assert content == b'{"status": "ok"}'
    else:
        assert json.loads(content)["reason"]
    assert not failures


@pytest.mark.parametrize(
    ("key", "status"), [("", 401), ("&key=", 401), ("&key=wrong", 401), ("&key=s%C3%A9cret", 200)]
)
def test_publish_wants_the_key(key: str, status: int) -> None:
    site = Site({"http-secret": "sécret"})
    body = f"channel=a&message=b{key}".encode()
    assert site.request("POST", "/publish", FORM, body=body)[0] == status
    body = json.dumps({"channel": "a", "message": "b", "key": "sécret"}).encode()
    assert site.request("POST", "/publish", JSON, body=body)[0] == 200


def test_publish_tells_when_the_broker_is_away() -> None:
    class Away(HttpBroker):
        def publish(self, channels: object, message: object) -> Any:
            raise BrokerUnavailable("gone fishing")

    status, _, content = Site(broker=Away).request("POST", "/publish", FORM, body=b"channel=a&message=b")
    assert status == 503
    assert json.loads(content)["reason"] == "gone fishing"


def test_stats_list_who_listens() -> None:
    site = Site()
    assert json.loads(site.request("GET", "/stats")[2]) == []
    site.connect("GET", "/?channels=a&channels=b")
    site.connect("GET", "/?channels=b&channels=b")
    _, head, body = site.request("GET", "/stats")
    assert json.loads(body) == [["a", 1], ["b", 2]]
    assert "Content-Type: application/json" in head
    assert site.request("HEAD", "/stats")[2] == b""


def test_names_that_users_import() -> None:
    from cyclone_sse import amqp, brokers, handlers, periodic, server

    assert issubclass(server.App, Application)
    assert {"get_channels", "authorize", "bind", "unbind", "sendEvent"} <= set(dir(handlers.BroadcastHandler))
    assert issubclass(handlers.BroadcastHandler, handlers.ExtendedSSEHandler)
    assert hasattr(handlers.PublishHandler, "post")
    assert hasattr(handlers.PublishHandler, "secret_key")
    assert hasattr(handlers.StatsHandler, "get_stats")
    for kind in (brokers.HttpBroker, brokers.RedisBroker, brokers.AmqpBroker):
        assert issubclass(kind, Broker)
        assert hasattr(kind({}, TurnClock()), "secret_key")
    hooks = {"connect", "subscribe", "unsubscribe", "is_pattern_blocked", "broadcast"}
    assert hooks | {"add_client", "remove_client", "stats", "send_event"} <= set(dir(Broker))
    assert callable(amqp.AmqpSubscriberProtocol)
    assert callable(amqp.AmqpSubscriberFactory)
    assert issubclass(periodic.GraphiteExport, periodic.UdpExport)
    assert hasattr(periodic.UdpExport, "prepare")
