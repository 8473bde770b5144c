"""The HTTP connection: raw bytes in, raw bytes out, through a real application and an in-memory transport."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.http.body_budget import SMALL
from cyclone_sse.http.connection import REFUSAL_TIMEOUT, REQUEST_TIMEOUT, Connection
from cyclone_sse.http.request_reader import RequestReader
from tests.unit.http.peer import FORM, POLL, PUBLISH, STATS, SUBSCRIBE, MemoryServer, Peer, head


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"GARBAGE\r\n\r\n"),
        (400, b"GET\r\n\r\n"),
        (400, b"GET /stats\r\n\r\n"),
        (400, b"GET /stats HTTP/1.1\r\nno colon\r\n\r\n"),
        (400, b"GET /stats HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"),
        (400, b"GET /stats HTTP/1.1\r\nA: b\0c\r\n\r\n"),
        (400, b"GET /stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET /stats HTTP/1.1\nHost: a\n\n"),
        (505, b"GET /stats HTTP/2.0\r\nHost: a\r\n\r\n"),
        (400, head("Content-Length: -1")),
        (400, head("Content-Length: +1")),
        (400, head("Content-Length: 0x1")),
        (400, head("Content-Length: 1, 1")),
        (400, head("Content-Length: ")),
        (400, head("Content-Length: 1", "Content-Length: 2")),
        (400, head("Content-Length: 1", "Content-Length: 1")),
        (400, head("Content-Length: 1", "Transfer-Encoding: chunked")),
        (400, head("Transfer-Encoding: chunked") + b"zz\r\n"),
        (400, head("Transfer-Encoding: gzip")),
        (501, head("Transfer-Encoding: gzip, chunked")),
        (400, head("Transfer-Encoding: identity")),
        (400, head("Transfer-Encoding: xchunked")),
        (413, head("Content-Length: 1001")),
        (413, head("Transfer-Encoding: chunked") + b"3e9\r\n" + b"x" * 1001),
        (431, head(*[f"A{n}: b" for n in range(100)])),
        (431, head("A: " + "b" * 17000)),
        (414, b"GET /" + b"a" * 17000),
        (431, b"GET / HTTP/1.1\r\nA: " + b"b" * 17000),
        (400, b"GET /?channels=%ff HTTP/1.1\r\nHost: x\r\n\r\n"),
    ],
)
def test_what_is_refused_gets_its_status_and_is_ended(status: int, data: bytes) -> None:
    peer = Peer()
    peer.send(data)
    assert peer.statuses == [status]
    assert peer.reason
    assert peer.gone
    said = peer.transport.value()
    assert peer.send(STATS) == said, "nothing is read after a refusal"


@pytest.mark.parametrize("at_once", [True, False])
def test_the_end_of_a_client_that_polls_is_noticed_whatever_follows_its_request(at_once: bool) -> None:
    server = MemoryServer()
    peer, other = server.peer(), server.peer()
    poll = head(POLL, method="GET", target="/?channels=a")
    if at_once:
        peer.send(poll + STATS * 1000)
    else:
        peer.send(poll)
        for _ in range(1000):
            peer.send(STATS)
    assert peer.transport.reading
    assert peer.statuses == [200]
    other.send(PUBLISH)
    server.turn()
    assert peer.transport.value().endswith(b"0\r\n\r\n"), "the poll is answered"
    assert peer.statuses == [200]
    assert peer.gone, "and nothing behind it"
    peer.wait(REFUSAL_TIMEOUT + 1)
    assert peer.transport.aborted


def test_a_poll_that_waited_for_its_turn_notices_its_client_s_end() -> None:
    server = MemoryServer()
    peer = server.peer()
    server.connections.runs.acquire = lambda: False  # type: ignore[method-assign]
    peer.connection.dataReceived(head(POLL, method="GET", target="/?channels=a") + STATS * 1000)
    assert not peer.transport.reading
    server.turn()
    assert peer.statuses == [200]
    assert peer.transport.reading


def test_few_requests_behind_a_poll_are_answered_after_it() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(head(POLL, method="GET", target="/?channels=a") + STATS * 3)
    server.peer().send(PUBLISH)
    server.turn()
    assert peer.statuses == [200] * 4
    assert not peer.gone


def test_a_malformed_form_is_refused_and_the_next_request_answered() -> None:
    peer = Peer()
    peer.send(head(FORM, "Content-Length: 12") + b"message=%ff&" + STATS)
    assert peer.statuses == [400, 200]
    assert not peer.gone


def test_a_page_may_read_why_its_request_was_malformed() -> None:
    peer = MemoryServer({"cors-origin": ("https://a.example",)}).peer()
    sent = peer.send(head("Origin: https://a.example", method="GET", target="/?channels=%ff"))
    assert b"\r\nAccess-Control-Allow-Origin: https://a.example\r\n" in sent
    assert peer.statuses == [400]


def test_a_head_of_just_the_limit_passes() -> None:
    def request(size: int) -> bytes:
        rest = len(b"GET /stats HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n")
        return head("A: " + "b" * (size - rest), method="GET", target="/stats")

    assert len(request(16384)) == 16384
    assert Peer().send(request(16384)).startswith(b"HTTP/1.1 200")
    assert Peer().send(request(16385)).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "BREW", "HEAD", "GET", "PATCH"])
def test_other_methods_are_told_which_ones_are_allowed(method: str) -> None:
    peer = Peer()
    said = peer.send(head(method=method))
    assert said.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST, OPTIONS\r\n" in said


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_requests_may_come_in_any_pieces(step: int) -> None:
    peer = Peer()
    chunked = head("Transfer-Encoding: chunked", "Content-Type: application/json")
    chunked += b'8;ext=1\r\n{"channe\r\n19\r\nl": "a", "message": "b"} \r\n0\r\nTrailer: x\r\n\r\n'
    data = PUBLISH + STATS + chunked + PUBLISH
    for start in range(0, len(data), step):
        peer.send(data[start : start + step])
    assert peer.statuses == [200] * 4
    assert not peer.gone


def test_a_refusal_comes_after_the_answers_before_it() -> None:
    peer = Peer()
    peer.send(PUBLISH + STATS + head("Content-Length: -1") + PUBLISH)
    assert peer.statuses == [200, 200, 400]


def test_what_a_subscriber_sends_is_dropped() -> None:
    peer = Peer()
    opened = peer.send(SUBSCRIBE + PUBLISH)
    assert peer.statuses == [200]
    assert peer.send(STATS + b"\0 rubbish") == opened
    assert not peer.gone


def test_continue_is_said_to_who_waits_for_it() -> None:
    peer = Peer()
    request = head("Expect: 100-continue", "Content-Length: 19")
    assert peer.send(request) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert Peer().send(request) == b"HTTP/1.1 100 Continue\r\n\r\n", "also with the same head"
    too_large = Peer()
    too_large.send(head("Expect: 100-continue", "Content-Length: 2000"))
    assert too_large.statuses == [413]


@pytest.mark.parametrize(
    ("request_", "stays"),
    [
        (b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET /stats HTTP/1.0\r\n\r\n", False),
        (b"GET /stats HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET http://x/stats HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET /stats HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", True),
    ],
)
def test_the_connection_stays_open_as_the_client_asks(request_: bytes, stays: bool) -> None:
    peer = Peer()
    assert b" 200 OK\r\n" in peer.send(request_)
    assert peer.gone is not stays


def test_a_request_must_be_complete_in_time() -> None:
    peer = Peer()
    peer.send(PUBLISH[:30])
    peer.wait(REQUEST_TIMEOUT - 1)
    peer.send(PUBLISH[30:40])
    assert not peer.gone
    peer.wait(1)
    assert peer.statuses == [408]
    assert peer.gone


def test_empty_lines_before_a_request_are_not_a_part_of_it() -> None:
    idle, slow = Peer(), Peer()
    for peer in (idle, slow):
        peer.send(b"\r")
        peer.send(b"\n")
    slow.send(PUBLISH[:30])
    slow.wait(REQUEST_TIMEOUT)
    assert slow.statuses == [408]
    idle.wait(REQUEST_TIMEOUT)
    assert not idle.gone
    idle.wait(65)
    assert idle.gone
    assert not idle.statuses


def test_a_refused_client_that_stays_is_cut_off() -> None:
    peer = Peer()
    peer.send(b"GARBAGE\r\n\r\n")
    peer.wait(REFUSAL_TIMEOUT)
    assert peer.transport.aborted


@pytest.mark.parametrize(("sent", "patience"), [(b"", REQUEST_TIMEOUT), (STATS, 75), (STATS, 700)])
def test_an_idle_connection_is_closed(sent: bytes, patience: float) -> None:
    peer = Peer(**({"idle-timeout": 700.0} if patience == 700 else {}))  # type: ignore[arg-type]
    if sent:
        peer.send(sent)
    peer.wait(patience - 1)
    assert not peer.gone
    peer.wait(1)
    assert peer.gone
    assert 408 not in peer.statuses


@pytest.mark.parametrize("name", [b"/run/sse.sock", "/run/sse.sock"])
def test_a_client_on_a_unix_socket_is_named_by_its_path(name: str | bytes) -> None:
    connection = Connection(MemoryServer().connections)
    connection.transport = SimpleNamespace(
        getPeer=lambda: UNIXAddress(None), getHost=lambda: UNIXAddress(name)
    )
    assert connection._remote_ip == "unix:/run/sse.sock"


def test_a_stream_is_never_timed_out() -> None:
    peer = Peer()
    peer.send(SUBSCRIBE)
    peer.wait(200)
    assert not peer.gone


def test_a_client_that_has_closed_its_side_gets_its_answer() -> None:
    peer = Peer()
    peer.connection.readConnectionLost()
    assert peer.gone
    waiting = Peer()
    taken: Deferred[None] = Deferred()
    waiting.app.broker.publish_all = lambda *_: taken  # type: ignore[method-assign]
    waiting.send(PUBLISH + STATS)
    waiting.connection.readConnectionLost()
    assert not waiting.gone
    taken.callback(None)
    waiting.clock.advance(0)
    assert waiting.statuses == [200, 200]
    assert waiting.gone


def test_a_little_that_comes_before_the_answer_does_not_stop_the_reading() -> None:
    peer = Peer()
    peer.app.broker.publish_all = lambda *_: Deferred()  # type: ignore[method-assign]
    peer.send(PUBLISH)
    for size in range(0, SMALL, len(STATS)):
        assert peer.transport.reading, f"after {size} bytes"
        peer.send(STATS)
    peer.send(STATS)
    assert not peer.transport.reading


def test_an_answer_that_comes_later_is_followed_by_the_next_request_at_once() -> None:
    peer = Peer()
    taken: Deferred[None] = Deferred()
    peer.app.broker.publish_all = lambda *_: taken  # type: ignore[method-assign]
    peer.send(PUBLISH)
    calls = len(peer.clock.calls)
    taken.callback(None)
    assert len(peer.clock.calls) == calls, "no call is due in the next turn"
    peer.connection.dataReceived(STATS)
    assert peer.statuses == [200, 200]
    peer.wait(100)
    assert peer.gone, "it waits for as long as any other"


def test_nothing_is_left_of_a_connection_that_is_gone() -> None:
    peer = Peer()
    peer.send(SUBSCRIBE)
    assert peer.app.broker.stats() == [("a", 1)]
    peer.connection.connectionLost(Failure(ConnectionDone()))
    assert peer.app.broker.stats() == []
    assert not peer.connections.open


def alive() -> set[int]:
    """The connections and readers that are in memory."""
    return {id(one) for one in gc.get_objects() if isinstance(one, Connection | RequestReader)}


@pytest.mark.parametrize("sent", [SUBSCRIBE, PUBLISH, b"GARBAGE\r\n\r\n", PUBLISH[:50]])
def test_a_connection_that_is_gone_does_not_wait_for_the_garbage_collector(sent: bytes) -> None:
    gc.collect()
    gc.disable()
    before = alive()
    try:
        peer = Peer()
        peer.send(sent)
        peer.connection.connectionLost(Failure(ConnectionDone()))
        peer.clock.pump([1, 1])
        del peer
        assert alive() <= before
    finally:
        gc.enable()


@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([PUBLISH, STATS, SUBSCRIBE, b"\r\n"]))))
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    peer = Peer()
    for piece in pieces:
        peer.send(piece)
    assert set(peer.statuses) <= {200, 400, 404, 405, 408, 413, 431, 501, 505}
