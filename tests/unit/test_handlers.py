"""Subscribe, publish, stats: through a real application and connection, in memory."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import pytest
from cyclone.web import Application, HTTPError
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cyclone_sse.access.rules import rules_of
from cyclone_sse.brokers import Broker, BrokerUnavailable, HttpBroker
from cyclone_sse.handlers import BroadcastHandler, DisconnectHandler, PublishHandler, StatsHandler
from cyclone_sse.http.connection import Connection
from cyclone_sse.http.server_state import ServerState
from tests.harness.eventstream import Parser
from tests.unit.access.keys import SECRET, token
from tests.unit.fakes import TurnClock


class Site:
    """An application with these settings and handlers, and its clients."""

    def __init__(
        self,
        settings: dict[str, Any] | None = None,
        subscribe: type[BroadcastHandler] = BroadcastHandler,
        broker: Callable[..., Any] = HttpBroker,
    ) -> None:
        self.clock = TurnClock()
        routes = [(r"/", subscribe), (r"/publish", PublishHandler), (r"/stats", StatsHandler)]
        self.app = Application([*routes, (r"/disconnect", DisconnectHandler)])
        self.app.broker = broker(settings or {}, reactor=self.clock)
        self.app.protocol = partial(Connection, ServerState(settings or {}, self.clock))

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


@pytest.mark.parametrize("target", ["/", "/?channels=", "/?channel=&channels[]=", "/?other"])
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
    assert names(head) == names(site.request("GET", "/?channels=a")[1])
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


def generator(self: BroadcastHandler) -> Any:
    yield False


def pair(self: BroadcastHandler) -> Any:
    return False, "not a member"


def members(self: BroadcastHandler) -> Any:
    return ["ann", "bob"]


def method(self: BroadcastHandler) -> Any:
    return self.get_channels


def later_pair(self: BroadcastHandler) -> Any:
    d: Deferred[Any] = Deferred()
    self.broker.reactor.callLater(0, d.callback, (False, "not a member"))
    return d


def later_coroutine(self: BroadcastHandler) -> Any:
    d: Deferred[Any] = Deferred()
    d.callback(None)
    return d.addCallback(lambda _: Asked())


class Asked:
    """Something to be awaited, which nobody did."""

    def __await__(self) -> Any:
        raise NotImplementedError


def nobody(self: BroadcastHandler) -> Any:
    return self.get_cookie("member")


@pytest.mark.parametrize(
    ("authorize", "status", "bugs"),
    [
        *[(deny, 401, 0), (later, 401, 0), (coroutine, 401, 0), (nobody, 401, 0), (forbid, 403, 0)],
        *[(fail, 500, 1), (generator, 500, 1), (pair, 500, 1), (members, 500, 1), (method, 500, 1)],
        *[(later_pair, 500, 1), (later_coroutine, 500, 1)],
    ],
)
def test_authorize_refuses(
    authorize: Callable[[Any], Any], status: int, bugs: int, failures: list[Any]
) -> None:
    handler = type("Guarded", (BroadcastHandler,), {"authorize": authorize})
    site = Site(subscribe=handler)
    assert site.request("GET", "/?channels=a")[0] == status
    assert site.app.broker.stats() == []
    assert len(failures) == bugs


class User:
    """What a database gives for a member."""


async def member(self: BroadcastHandler) -> Any:
    return User()


@pytest.mark.parametrize(
    "authorize", [lambda self: "ann", lambda self: User(), lambda self: 1, lambda self: {"id": 1}, member]
)
def test_authorize_counts_by_its_truth(authorize: Callable[[Any], Any]) -> None:
    handler = type("Guarded", (BroadcastHandler,), {"authorize": authorize})
    assert Site(subscribe=handler).request("GET", "/?channels=a")[0] == 200


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


def test_an_unbind_that_fails_leaves_nobody_registered(failures: list[object]) -> None:
    class Failing(BroadcastHandler):
        def unbind(self) -> None:
            raise ZeroDivisionError

    site = Site(subscribe=Failing)
    transport = site.connect("GET", "/?channels=a")
    assert site.broker.stats() == [("a", 1)]
    transport.connection.connectionLost(GONE)  # type: ignore[attr-defined]
    assert site.broker.stats() == []
    assert len(failures) == 1


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
    if fields.get("Transfer-Encoding") == "chunked":  # the head did not wait for the events
        assert body.endswith("0\r\n\r\n")
        body = "".join(re.split(r"(?:^|\r\n)[0-9a-f]+\r\n", body[: -len("0\r\n\r\n")])).removesuffix("\r\n")
    else:
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
    assert b"\r\nLast-Event-ID: " in transport.value(), "it can ask on if it is cut off now"
    for number in range(4):
        site.publish("a", str(number))
    position, got = polled(transport)
    for _ in range(3):
        transport = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
        position, data = polled(transport)
        got += data
    assert got == ["0", "1", "2", "3"]
    waiting = site.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    assert waiting.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n")
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
    assert transport.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n")
    site.publish("a", "8")
    assert polled(transport)[1] == ["8"]


@pytest.mark.parametrize("last", [None, "data: bye\n\n", b"data: bye\n\n"])
def test_a_poll_that_a_custom_application_finishes_is_a_whole_answer(last: str | bytes | None) -> None:
    clients: list[BroadcastHandler] = []

    class Ending(BroadcastHandler):
        def bind(self) -> None:
            super().bind()
            clients.append(self)

    transport = Site(subscribe=Ending).connect("GET", "/?channels=a", POLL)
    clients[0].finish(last)
    body = transport.value().partition(b"\r\n\r\n")[2]
    assert body == b"2\r\n\n\n\r\n" + (b"b\r\ndata: bye\n\n\r\n" if last else b"") + b"0\r\n\r\n"


def test_an_application_that_wants_xsrf_cookies_has_them_checked() -> None:
    site = Site()
    site.app.settings["xsrf_cookies"] = True
    assert site.publish("a", "x") == 403


def test_a_broker_of_an_application_may_publish_in_a_coroutine() -> None:
    class Own(HttpBroker):
        async def publish_all(self, publications: Any) -> Any:  # type: ignore[override]
            return super().publish_all(publications)

    status, _, body = Site(broker=Own).request(
        "POST", "/publish", JSON, body=b'{"channel": "a", "message": "x"}'
    )
    assert (status, "id" in json.loads(body)) == (200, True)


MULTIPART = "Content-Type: multipart/form-data; boundary=B"
LINES = "Content-Type: application/x-ndjson"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (400, FORM, b""),
        (400, FORM, b"channel=a"),
        (400, FORM, b"message=a"),
        (400, FORM, b"channel=&message=a"),
        (400, FORM, b"channel=a&message="),
        (400, FORM, b"channel=a&message=b&event=sse-gap"),
        (400, FORM, b"channel=a&message=b&event=a%0Adata:"),
        (400, FORM, b"channel=a&message=b&retry=soon"),
        (400, FORM, b'{"channel": "a", "message": "b=c"}'),
        (400, JSON, b"{"),
        (400, JSON, b"[" * 100000),
        (400, JSON, b"[1]"),
        (400, JSON, b"[]"),
        (400, JSON, b"1"),
        (400, JSON, b'{"channel": "a"}'),
        (400, JSON, b'{"channel": 1, "message": "a"}'),
        (400, JSON, b'{"channel": ["a", null], "message": "a"}'),
        (400, JSON, b'{"channel": "a", "message": "\\ud800"}'),
        (400, JSON, b'{"channel": "a", "message": "b", "evnet": "c"}'),
        (400, JSON, '{"channel": "a", "message": "é"}'.encode("latin-1")),
        (400, JSON, b'{"channel": "a", "message": NaN}'),
        (400, LINES, b"\n\n"),
        (400, LINES, b'{"channel": "a", "message": "b"}\n[]'),
        (415, "Content-Type: text/plain", b"channel=a&message=b"),
        (415, "Content-Type: application/jsonp", b"{}"),
        (415, "X: y", b"channel=a&message=b"),
        (415, f"{JSON}\r\nContent-Encoding: gzip", b"{}"),
        (200, f"{JSON}\r\nContent-Encoding: Identity", b'{"channel": ["a", "b"], "message": "x"}'),
        (200, JSON.upper(), b'{"channel": ["a", "b"], "message": "x"}'),
        (200, JSON, b'{"channel": "a", "channels": ["b"], "message": {"b": 1}, "event": "c", "retry": 5}'),
        (200, FORM, b"channel=a&channel=b&message=x&other=1"),
        (200, FORM, b"channels%5B%5D=a&channels%5B0%5D=b&channel[]=c&message=x&event=news&retry=1"),
        (
            200,
            MULTIPART,
            b'--B\r\nContent-Disposition: form-data; name="channel"\r\n\r\na\r\n'
            b'--B\r\nContent-Disposition: form-data; name="message"\r\n\r\n x\r\n\r\n--B--\r\n',
        ),
    ],
)
def test_publish_takes_what_is_complete(status: int, kind: str, body: bytes, failures: list[Any]) -> None:
    answer, head, content = Site().request("POST", "/publish", kind, body=body)
    assert answer == status
    assert "Content-Type: application/json" in head
    if status != 200:
        assert json.loads(content)["reason"]
    elif kind.lower().startswith("content-type: application/json"):
        said = json.loads(content)
        assert (said.pop("status"), said.pop("subscribers")) == ("ok", 0)
        assert said.pop("id")
        assert not said
    else:
        assert content == b'{"status": "ok"}'
    assert not failures


def test_publish_without_a_body_takes_the_query_but_no_key_from_it() -> None:
    assert Site().request("POST", "/publish?channel=a&message=b")[0] == 200
    site = Site({"http-secret": "s"})
    assert site.request("POST", "/publish?channel=a&message=b&key=s")[0] == 401
    assert site.request("POST", "/publish?key=s", FORM, body=b"channel=a&message=b")[0] == 401
    assert site.request("POST", "/publish?channel=a", FORM, body=b"message=b&key=s")[0] == 200


@pytest.mark.parametrize(
    ("key", "status"), [("", 401), ("&key=", 401), ("&key=wrong", 401), ("&key=s%C3%A9cret", 200)]
)
def test_publish_wants_the_key(key: str, status: int) -> None:
    site = Site({"http-secret": "sécret"})
    body = f"channel=a&message=b{key}".encode()
    assert site.request("POST", "/publish", FORM, body=body)[0] == status
    body = json.dumps({"channel": "a", "message": "b", "key": "sécret"}).encode()
    assert site.request("POST", "/publish", JSON, body=body)[0] == 200


@pytest.mark.parametrize("kind", [FORM, JSON, LINES])
def test_the_key_may_come_in_the_header(kind: str) -> None:
    site = Site({"http-secret": "secret"})
    event = b'{"channel": "a", "message": "b"}'
    body = b"channel=a&message=b" if kind is FORM else event
    assert site.request("POST", "/publish", kind, "Authorization: Bearer secret", body=body)[0] == 200
    status, head, _ = site.request("POST", "/publish", kind, "Authorization: Bearer wrong", body=body)
    assert status == 401
    assert 'WWW-Authenticate: Bearer error="invalid_token"' in head


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (["secret", "secret"], 200),
        (["secret", None], 401),
        (["wrong", "secret"], 401),
        ([["secret"]] * 2, 401),
    ],
)
def test_each_object_of_a_batch_holds_the_key(keys: list[Any], status: int) -> None:
    events = [{"channel": "a", "message": "b", "key": key} for key in keys]
    for event in events:
        if event["key"] is None:
            del event["key"]
    body = json.dumps(events).encode()
    assert Site({"http-secret": "secret"}).request("POST", "/publish", JSON, body=body)[0] == status


def test_a_batch_is_delivered_in_its_order() -> None:
    for kind in (JSON, LINES):
        site = Site()
        client = site.connect("GET", "/?channels=a&channels=b")
        events = [{"channel": "ab"[number % 2], "message": number} for number in range(9)]
        if kind is JSON:
            body = json.dumps(events).encode()
        else:
            body = b"\r\n".join([*(json.dumps(event).encode() for event in events), b""])
        status, _, content = site.request("POST", "/publish", kind, body=body)
        answer = json.loads(content)
        assert (status, answer["status"], answer["subscribers"]) == (200, "ok", 1)
        got = Parser().feed(client.value().partition(b"\r\n\r\n")[2])
        assert [event.data for event in got] == [str(number) for number in range(9)]
        assert [event.id for event in got] == answer["ids"]


@pytest.mark.parametrize("kind", [JSON, LINES])
def test_a_batch_with_one_bad_event_publishes_nothing(kind: str) -> None:
    site = Site()
    client = site.connect("GET", "/?channels=a")
    events = [{"channel": "a", "message": "x"}] * 2 + [{"channel": "a"}, {}]
    lines = "\n".join(map(json.dumps, events))
    body = (json.dumps(events) if kind is JSON else lines).encode()
    status, _, content = site.request("POST", "/publish", kind, body=body)
    assert status == 400
    assert json.loads(content)["reason"] == "index 2: message is missing"
    if kind is LINES:
        _, _, content = site.request("POST", "/publish", kind, body=body.replace(b'"x"', b'"x', 1))
        assert json.loads(content)["reason"] == "index 0: this is not JSON"
    assert data_of(client) == []


def test_the_answer_to_json_is_what_a_page_resumes_from() -> None:
    site = Site()
    for _ in range(2):
        site.connect("GET", "/?channels=a&channels=b")
    event = b'{"channel": ["a", "b"], "message": "first"}'
    answer = json.loads(site.request("POST", "/publish", JSON, body=event)[2])
    assert answer["subscribers"] == 2
    site.publish("a", "second")
    assert data_of(site.connect("GET", f"/?channels=a&lastEventId={answer['id']}")) == ["second"]


def test_type_and_retry_go_out() -> None:
    site = Site()
    client = site.connect("GET", "/?channels=a")
    body = b'{"channel": "a", "message": {"title": "Hello"}, "event": "news", "retry": 1500}'
    site.request("POST", "/publish", JSON, body=body)
    assert client.value().endswith(b'\nevent: news\nretry: 1500\ndata: {"title":"Hello"}\n\n')


def test_publish_tells_when_the_broker_is_away_but_not_where_it_is() -> None:
    class Away(HttpBroker):
        def publish(self, channels: object, message: object) -> Any:
            raise BrokerUnavailable("no answer from redis-7.internal")

        def control(self, order: object) -> Any:
            raise BrokerUnavailable("no answer from redis-7.internal")

    for path in ("/publish", "/disconnect"):
        status, head, content = Site(broker=Away).request("POST", path, FORM, body=b"channel=a&message=b")
        assert status == 503
        assert "Retry-After: " in head
        assert json.loads(content)["reason"] == "the broker is away"


def test_one_name_given_as_text_is_one_channel() -> None:
    """A well-known example application publishes so; letter by letter nobody would hear it."""
    site = Site()
    client = site.connect("GET", "/?channels=chat&channels=c")
    site.broker.publish("chat", "hello")
    site.turn()
    assert data_of(client) == ["hello"]
    site.broker.publish("other", "nobody hears it")
    site.turn()
    assert data_of(client) == ["hello"]


def test_a_broker_without_a_place_for_types_refuses_them_by_name() -> None:
    class Plain(Broker):
        lingers = False
        sent: ClassVar[list[Any]] = []

        def __init__(self, settings: Any, reactor: Any) -> None:
            super().__init__(settings, "plain", reactor)

        def publish(self, channels: Any, message: Any) -> Any:
            self.sent.append((channels, message))

    site = Site(broker=Plain)
    event = {"channel": "a", "message": "b"}
    status, _, content = site.request(
        "POST", "/publish", JSON, body=json.dumps([event, {**event, "event": "news"}]).encode()
    )
    assert status == 400
    assert "event" in json.loads(content)["reason"]
    assert Plain.sent == []
    status, _, content = site.request("POST", "/publish", JSON, body=json.dumps([event, event]).encode())
    assert (status, Plain.sent) == (200, [(["a"], "b")] * 2)
    assert json.loads(content) == {"status": "ok", "subscribers": 0}


def test_a_page_of_another_site_may_not_publish() -> None:
    site = Site()
    form = b"channel=a&message=b"
    for path in ("/publish", "/disconnect"):
        status, _, content = site.request("POST", path, FORM, "Origin: https://evil.example", body=form)
        assert status == 403
        assert "--cors-origin" in json.loads(content)["reason"]
        assert site.request("POST", path, FORM, "Origin: http://x", body=form)[0] == 200


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"channel=a", {"b"}),
        (b"channels[]=a&channel=b", set()),
        (b"user=42", {"a", "b"}),
        (b'{"channel": ["b"]}', {"a"}),
        (b'{"channels": "b", "key": ""}', {"a"}),
    ],
)
def test_disconnect_ends_the_streams_of_a_channel(body: bytes, left: set[str]) -> None:
    site = Site()
    clients = {channel: site.connect("GET", f"/?channels={channel}") for channel in "ab"}
    kind = JSON if body.startswith(b"{") else FORM
    status, _, content = site.request("POST", "/disconnect", kind, body=body)
    assert status == 200
    assert json.loads(content) == {"status": "ok", "streams": 2 - len(left)}
    assert {channel for channel, client in clients.items() if not client.disconnecting} == left


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b""),
        (FORM, b"channel=&user="),
        (FORM, b"channel=a&user=42"),
        (JSON, b"[]"),
        (JSON, b"{}"),
        (JSON, b'[{"user": "42"}]'),
        (JSON, b'{"user": 42}'),
        (JSON, b'{"user": []}'),
        (JSON, b'{"usr": "42"}'),
    ],
)
def test_disconnect_wants_to_know_whose_streams(kind: str, body: bytes) -> None:
    status, _, content = Site().request("POST", "/disconnect", kind, body=body)
    assert status == 400
    assert json.loads(content)["reason"]


def test_disconnect_wants_the_key() -> None:
    site = Site({"http-secret": "secret"})
    assert site.request("POST", "/disconnect", FORM, body=b"user=42")[0] == 401
    assert site.request("POST", "/disconnect?key=secret", FORM, body=b"user=42")[0] == 401
    assert site.request("POST", "/disconnect", FORM, body=b"user=42&key=secret")[0] == 200


def test_only_a_token_for_everything_ends_streams() -> None:
    site = Site({"jwt-secret": SECRET})
    client = site.connect("GET", f"/?channels=a&access_token={token(sub='42', subscribe=['a'])}")
    for claim, status in ((["a", "a*"], 403), (["*"], 200)):
        bearer = f"Authorization: Bearer {token(publish=claim)}"
        assert site.request("POST", "/disconnect", FORM, bearer, body=b"user=42")[0] == status
    assert client.disconnecting


def test_a_token_says_where_its_bearer_may_publish() -> None:
    site = Site({"jwt-secret": SECRET})
    bearer = f"Authorization: Bearer {token(publish=['a', 'b-*'])}"
    assert site.request("POST", "/publish", FORM, bearer, body=b"channel=b-1&message=x")[0] == 200
    status, head, content = site.request("POST", "/publish", FORM, bearer, body=b"channel=c&message=x")
    assert status == 403
    assert "'c'" in json.loads(content)["reason"]
    assert "insufficient_scope" in head
    events = json.dumps([{"channel": name, "message": "x"} for name in "ac"]).encode()
    assert site.request("POST", "/publish", JSON, bearer, body=events)[0] == 403
    assert site.request("POST", "/publish", FORM, body=b"channel=a&message=x")[0] == 401


def test_stats_list_who_listens() -> None:
    site = Site()
    assert json.loads(site.request("GET", "/stats")[2]) == []
    site.connect("GET", "/?channels=a&channels=b")
    site.connect("GET", "/?channels=b&channels=b")
    _, head, body = site.request("GET", "/stats")
    assert json.loads(body) == [["a", 1], ["b", 2]]
    assert "Content-Type: application/json" in head
    assert site.request("HEAD", "/stats")[2] == b""
    for query, listed in (
        ("channel=a", ["a"]),
        ("channel=a&channel=b&channel=c", ["a", "b"]),
        ("prefix=b", ["b"]),
        ("prefix=b&channels[]=a", ["a", "b"]),
        ("prefix=", ["a", "b"]),
        ("channel=c", []),
    ):
        assert [row[0] for row in json.loads(site.request("GET", f"/stats?{query}")[2])] == listed


def test_a_private_channel_needs_a_token() -> None:
    site = Site({"jwt-secret": SECRET, "public": ("front",), "cors-origin": ("https://www.example",)})
    origin = "Origin: https://www.example"
    good = token(sub="42", subscribe=["user-42"])
    for target, status in (
        ("/?channels=front", 200),
        ("/?channels=user-42", 401),
        (f"/?channels=user-42&access_token={good}x", 401),
        (f"/?channels=user-42&channels=front&access%5Ftoken={good}", 200),
        (f"/?channels=user-43&access_token={good}", 403),
    ):
        answer, head, body = site.request("GET", target, origin)
        assert answer == status, target
        assert "Access-Control-Allow-Origin: https://www.example" in head
        exposed = head.partition("Access-Control-Expose-Headers: ")[2].split("\r\n")[0]
        assert {"WWW-Authenticate", "Retry-After"} <= set(exposed.split(", "))
        if status == 401:
            assert 'WWW-Authenticate: Bearer error="invalid_token"' in head
        if status == 403:
            assert "'user-43'" in json.loads(body)["reason"]
    assert site.broker.stats() == [("front", 2), ("user-42", 1)]


@pytest.mark.parametrize("poll", [(), (POLL,)])
def test_a_stream_ends_with_its_token(poll: tuple[str, ...]) -> None:
    site = Site({"jwt-secret": SECRET, "ping-interval": 0.0})
    site.broker.start()
    expires = int(time.time()) + 5
    client = site.connect(
        "GET", f"/?channels=a&access_token={token(subscribe=['a'], exp=expires)}", "X: y", *poll
    )
    for _ in range(40):
        assert b"sse-expired" not in client.value() or site.clock.seconds() > 3
        site.clock.advance(0.2)
    site.turn()
    (event,) = Parser().feed(client.value().partition(b"\r\n\r\n")[2])
    assert event.type == "sse-expired"
    assert poll or client.disconnecting


def test_what_an_application_may_log_holds_no_token() -> None:
    seen: list[str] = []

    class Logging(BroadcastHandler):
        def authorize(self) -> bool:
            request = self.request
            seen.extend(map(repr, (request, request.uri, request.query, request.arguments)))
            return True

    site = Site({"jwt-secret": SECRET}, subscribe=Logging)
    good = token(subscribe=["a"])
    for query in (
        f"access_token={good}&channels=a",
        f"channels=a&access_token={good}",
        f"channels=a&%61ccess_token={good}&uuid=1&access_token={good}",
        f"channels=a&access_token=old&access_token={good}",
    ):
        assert site.request("GET", f"/?{query}")[0] == 200
    assert site.request("GET", "/?channels=a", f"Authorization: Bearer {good}", f"Cookie: x={good}")[0] == 200
    assert good not in "".join(seen)
    assert "'/?channels=a'" in seen
    assert "'/?channels=a&uuid=1'" in seen


def test_an_application_that_reads_the_parameter_itself_still_gets_it() -> None:
    class Own(BroadcastHandler):
        def authorize(self) -> bool:
            return bool(self.get_argument("access_token") == "mine")

    assert Site(subscribe=Own).request("GET", "/?channels=a&access_token=mine")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_leaves_while_the_application_is_asked_is_forgotten(method: str, failures: list[Any]) -> None:
    site = Site({"auth-url": "http://127.0.0.1:1/"})
    cancelled: list[Any] = []
    question: Deferred[Any] = Deferred(cancelled.append)
    rules_of(site.app)._auth_url = SimpleNamespace(ask=lambda *_: question)  # type: ignore[assignment]
    client = site.connect(method, "/?channels=a")
    client.connection.connectionLost(GONE)  # type: ignore[attr-defined]
    assert cancelled == [question]
    assert site.broker.stats() == []
    assert not failures


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("channels=a&channels=b", 200),
        ("channels=a&channels=a&channels=b", 200),
        ("channels=a&channel=b&channels=c", 400),
    ],
)
def test_a_stream_has_so_many_channels_at_most(query: str, status: int) -> None:
    assert Site({"max-channels": 2}).request("GET", f"/?{query}")[0] == status


def test_patterns_are_off_where_others_speak_too() -> None:
    class Shared(HttpBroker):
        open_patterns = False

        def is_pattern(self, channel: str) -> bool:
            return "*" in channel

    status, _, body = Site(broker=Shared).request("GET", "/?channels=a&channels=news.*")
    assert status == 403
    assert "--patterns=1" in json.loads(body)["reason"]
    site = Site({"patterns": True, "max-patterns": 1}, broker=Shared)
    assert site.request("GET", "/?channels=news.*")[0] == 200
    assert site.request("GET", "/?channels=news.*&channels=*")[0] == 400
    assert Site().request("GET", "/?channels=news.*")[0] == 200  # only a name


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
