"""One stream, from its request to its end: what its first bytes are, and how long polls are answered."""

from __future__ import annotations

import re

from cyclone_sse.delivery.publication import publication
from tests.unit.http.peer import MemoryServer, Peer

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
