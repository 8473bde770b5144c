"""One stream, from its request to its end: what its first bytes are, and how long polls are answered."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cyclone_sse.delivery.publication import publication
from cyclone_sse.handlers import BroadcastHandler
from tests.unit.http.peer import MemoryServer, Peer, parse

POLL = "X-Requested-With: XMLHttpRequest"
ID = r"\d+-\d+-\w+"


def ask(
    peer: Peer, *headers: str, method: str = "GET", version: str = "1.1", target: str = "/?channels=a"
) -> str:
    """What is said to this request so far."""
    lines = [f"{method} /?channels=a HTTP/{version}", "Host: x", *headers, "", ""]
    peer.send("\r\n".join(lines).encode())
    return said(peer)


def said(peer: Peer) -> str:
    peer.clock.pump([0] * 5)
    text: str = peer.transport.value().decode()
    return text


def publish(peer: Peer, message: str) -> str:
    """Gives the event's id."""
    return str(peer.app.broker.hub.publish(publication("a", message)).id)


def test_a_stream_begins_with_a_blank_line_and_says_its_position() -> None:
    text = ask(Peer())
    assert text.startswith("HTTP/1.1 200 OK\r\n")
    assert re.search(rf"^Last-Event-ID: {ID}\r$", text, re.MULTILINE)
    assert text.endswith("\r\n\r\n\n\n")


def test_a_browser_gets_its_position_in_the_stream() -> None:
    assert re.search(rf"\n\nid: {ID}\n\n$", ask(Peer(), "Sec-Fetch-Mode: cors"))


def test_each_client_is_told_a_time_of_its_own_until_it_comes_back() -> None:
    server = MemoryServer({"retry": 1000})
    times = [int(re.findall(r"retry: (\d+)", ask(server.peer()))[0]) for _ in range(50)]
    assert 500 <= min(times) < 900
    assert 1100 < max(times) <= 1500


def test_who_comes_back_is_told_its_own_id_and_given_the_rest() -> None:
    server = MemoryServer()
    first = server.peer()
    ask(first)
    last = publish(first, "1")
    publish(first, "2")
    again = ask(server.peer(), f"Last-Event-ID: {last}")
    assert f"Last-Event-ID: {last}\r\n" in again
    assert again.count("data: ") == 1
    assert "data: 2\n" in again


def test_head_says_the_same_and_nothing_behind() -> None:
    peer = Peer()
    text = ask(peer, method="HEAD")
    assert re.search(rf"^Last-Event-ID: {ID}\r$", text, re.MULTILINE)
    assert text.endswith("\r\n\r\n")
    assert not peer.gone
    assert peer.app.broker.stats() == []


class Marked(BroadcastHandler):
    """Adds to the head of its answers."""

    def authorize(self) -> bool:
        self.set_header("X-Mine", "1")
        return True


class MarkedFirst(BroadcastHandler):
    def set_default_headers(self) -> None:
        self.set_header("X-Mine", "1")


class WithCookie(BroadcastHandler):
    def authorize(self) -> bool:
        self.set_cookie("x-mine", "1")
        return True


class Private(BroadcastHandler):
    def authorize(self) -> bool:
        self.is_private = True
        return True


@pytest.mark.parametrize("origins", [("*",), ("https://a.example",)])
@pytest.mark.parametrize("origin", [None, "https://A.example", "https://b.example"])
@pytest.mark.parametrize("subscribe", [BroadcastHandler, Marked, MarkedFirst, WithCookie, Private])
def test_the_head_of_a_stream_is_that_of_its_head_request(
    subscribe: type[BroadcastHandler], origin: str | None, origins: tuple[str, ...]
) -> None:
    server = MemoryServer({"cors-origin": origins}, subscribe)
    sent = [f"Origin: {origin}"] if origin else []

    def fields(method: str) -> dict[str, Any]:
        (response,) = parse(ask(server.peer(), *sent, method=method).encode(), method == "HEAD")
        differ = ("date", "last-event-id")
        return {name: value for name, value in response.headers.items() if name not in differ}

    found = fields("GET")
    assert found == fields("HEAD")
    assert found["vary"].endswith("X-Requested-With, Last-Event-ID")
    assert ("private" in found["cache-control"]) == (subscribe is Private)
    if subscribe in (Marked, MarkedFirst):
        assert found["x-mine"] == "1"
    assert ("set-cookie" in found) == (subscribe is WithCookie)


def test_a_long_poll_gets_its_head_at_once_and_one_event_and_keeps_its_connection() -> None:
    peer = Peer()
    text = ask(peer, POLL)
    assert "Transfer-Encoding: chunked" in text
    assert "Last-Event-ID" in text
    publish(peer, "1")
    publish(peer, "2")
    answer = said(peer).removeprefix(text)
    assert "data: 1\n" in answer
    assert "data: 2\n" not in answer
    assert answer.endswith("0\r\n\r\n")
    assert not peer.gone
    assert peer.app.broker.stats() == []


def test_a_long_poll_by_http_1_0_gets_all_at_once_and_the_end() -> None:
    peer = Peer()
    assert ask(peer, POLL, version="1.0") == ""
    publish(peer, "1")
    text = said(peer)
    assert "chunked" not in text
    assert text.endswith("data: 1\n\n")
    assert peer.gone


def test_who_closes_his_side_has_gone() -> None:
    for headers in ([], [POLL]):
        peer = Peer()
        ask(peer, *headers)
        peer.connection.readConnectionLost()
        assert peer.gone
