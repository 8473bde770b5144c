"""One stream, from its request to its end: its head, its events, and what a subclass may change."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.delivery.publication import publication
from cyclone_sse.handlers import BroadcastHandler
from tests.unit.http.peer import JSON, POLL, MemoryServer

GONE = Failure(ConnectionDone())


def test_the_head_of_a_stream() -> None:
    status, head, body = MemoryServer().request("GET", "/?channels=a")
    assert status == 200
    for line in (
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache, no-transform",
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
        body = MemoryServer({"retry": 1500}).request("GET", "/?channels=a")[2]
        times.add(int(body.removeprefix(b"\n\nretry: ")))
    assert all(750 <= time <= 2250 for time in times)
    assert len(times) > 10, "each client receives another time"


def test_only_a_browser_gets_an_id_before_any_event() -> None:
    _, head, body = MemoryServer().request("GET", "/?channels=a", "Sec-Fetch-Mode: cors")
    position = head.partition("Last-Event-ID: ")[2].split("\r\n")[0]
    assert body == b"\n\nid: %s\n\n" % position.encode()


@pytest.mark.parametrize("target", ["/", "/?channels=", "/?channel=&channels[]=", "/?other"])
def test_without_a_channel_there_is_no_stream(target: str) -> None:
    status, _, body = MemoryServer().request("GET", target)
    assert status == 400
    assert json.loads(body)["status"] == "error"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_get_opens_a_stream(method: str) -> None:
    status, head, _ = MemoryServer().request(method, "/?channels=a")
    assert status == 405
    assert "\r\nAllow: GET, HEAD, OPTIONS" in head


@pytest.mark.parametrize("path", ["/", "/publish", "/stats"])
def test_options(path: str) -> None:
    status, head, body = MemoryServer().request("OPTIONS", path)
    assert (status, body) == (204, b"")
    assert "\r\nAllow: " in head
    assert "Access-Control-Allow-Methods" not in head, "this is no preflight"
    assert "Content-Length" not in head
    asked = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
    _, head, _ = MemoryServer().request("OPTIONS", path, *asked)
    assert "Access-Control-Allow-Methods: " in head
    assert "Access-Control-Allow-Headers: Authorization, " in head


@pytest.mark.parametrize("header", ["Accept: */*", "X-Requested-With: XMLHttpRequest"])
def test_head_of_a_stream_is_that_of_get(header: str) -> None:
    def names(head: str) -> set[str]:
        return {line.partition(":")[0] for line in head.split("\r\n")[1:]} - {"Transfer-Encoding"}

    server = MemoryServer()
    status, head, body = server.request("HEAD", "/?channels=a", header)
    assert (status, body) == (200, b"")
    assert names(head) == names(server.request("GET", "/?channels=a", header)[1])


@pytest.mark.parametrize("query", ["", f"channels=a&client={'x' * 65}", f"channels={'x' * 256}"])
def test_what_get_refuses_head_refuses(query: str) -> None:
    server = MemoryServer()
    assert server.request("GET", f"/?{query}")[0] == 400
    assert server.request("HEAD", f"/?{query}")[0] == 400


def test_cors_with_a_list_of_origins() -> None:
    server = MemoryServer({"cors-origin": ["https://a.example", "https://b.example"]})
    _, head, _ = server.request("GET", "/?channels=a", "Origin: https://b.example")
    assert "Access-Control-Allow-Origin: https://b.example" in head
    assert "Access-Control-Allow-Credentials: true" in head
    assert "Vary: Origin" in head
    for headers in ([], ["Origin: https://evil.example"]):
        _, head, _ = server.request("GET", "/?channels=a", *headers)
        assert "Access-Control-Allow-Origin" not in head
        assert "Vary: Origin" in head


def test_sendevent_of_a_subclass_makes_every_event() -> None:
    class Loud(BroadcastHandler):
        def sendEvent(self, message: Any, event: Any = None, eid: Any = None, retry: Any = None) -> None:
            super().sendEvent(message.upper(), "shout", eid, retry)

    server = MemoryServer(subscribe=Loud)
    server.publish("a", "before\r\nhand")
    transport = server.connect("GET", "/?channels=a&lastEventId=earliest")
    server.publish("a", "live")
    assert transport.events == ["BEFORE\nHAND", "LIVE"]
    assert transport.value().count(b"event: shout\n") == 2


@pytest.mark.parametrize("headers", [(), (POLL,)])
def test_events_of_a_sendevent_of_a_subclass_have_their_channels(headers: tuple[str, ...]) -> None:
    class Twice(BroadcastHandler):
        def sendEvent(self, message: Any, event: Any = None, eid: Any = None, retry: Any = None) -> None:
            if message != "skipped":
                super().sendEvent(message)
                super().sendEvent("again", "twice")

    server = MemoryServer({"patterns": True, "poll-batch": True}, subscribe=Twice)
    server.broker.hub.publish(publication(["news.a", "b", "other"], "past", excluded="tab"))
    server.publish("b", "skipped")
    query = "channels=news.*&channels=news.a&channels=b"
    past = b"channel: news.*\nchannel: news.a\nchannel: b\nexcept: tab\n"
    received = b"%sdata: past\n\n%sevent: twice\ndata: again\n\n" % (past, past)
    body = server.request("GET", f"/?{query}&fields=channel&lastEventId=earliest", *headers)[2]
    assert received in body
    assert body.count(b"channel: ") == 6
    assert b"channel: " not in server.request("GET", f"/?{query}&lastEventId=earliest", *headers)[2]


def test_a_state_before_older_events_comes_to_sendevent_without_its_id() -> None:
    class Plain(BroadcastHandler):
        def sendEvent(self, *args: Any, **kwargs: Any) -> None:
            super().sendEvent(*args, **kwargs)

    server = MemoryServer({"history-size": 2}, subscribe=Plain)
    start = server.broker.position()
    old = server.broker.hub.publish(publication("b", "old"))
    state = server.broker.hub.publish(publication("a", "state", keep=True))
    for _ in range(2):
        server.publish("a", "new")
    stream = server.connect("GET", f"/?channels=a&channels=b&state=1&lastEventId={start}")
    assert stream.events == ['{"channels": ["a"]}', "state", "old", "new", "new"]
    assert f"id: {state.id}\n".encode() not in stream.value(), "a client cut off there would miss the old one"
    assert f"id: {old.id}\n".encode() in stream.value()


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

    server = MemoryServer(subscribe=Told)
    transport = server.connect("GET", "/?channels=a", "Cookie: who=ann")
    server.publish("a", "x")
    assert transport.events == ['{"hello": 1}', "x"]
    transport.connection.connectionLost(GONE)
    assert told == ["ann", "ann"]


def test_an_open_stream_keeps_nothing_of_its_request_except_for_a_subclass() -> None:
    class Told(BroadcastHandler):
        pass

    for handler, kept in ((BroadcastHandler, False), (Told, True)):
        transport = MemoryServer(subscribe=handler).connect("GET", "/?channels=a&fields=channel", "X: y")
        request = transport.connection._request
        assert [bool(each) for each in (request.arguments, request.parameters, request.headers)] == [kept] * 3


def test_an_unbind_that_fails_leaves_no_client_registered(failures: list[object]) -> None:
    class Failing(BroadcastHandler):
        def unbind(self) -> None:
            raise ZeroDivisionError

    server = MemoryServer(subscribe=Failing)
    transport = server.connect("GET", "/?channels=a")
    assert server.broker.stats() == [("a", 1)]
    transport.connection.connectionLost(GONE)
    assert server.broker.stats() == []
    assert len(failures) == 1


@given(message=st.text(min_size=1), channel=st.text(min_size=1, max_size=63), as_json=st.booleans())
def test_any_text_arrives(message: str, channel: str, as_json: bool) -> None:
    server = MemoryServer()
    transport = server.connect("GET", f"/?channels={quote(channel, safe='')}")
    if as_json:
        body = json.dumps({"channel": channel, "message": message}).encode()
        status = server.request("POST", "/publish", JSON, body=body)[0]
    else:
        status = server.publish(channel, message)
    assert status == 200
    assert transport.events == [message.replace("\r\n", "\n").replace("\r", "\n")]
