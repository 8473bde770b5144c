"""One request, with Twisted's Agent on a connection in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.client import URI

from cyclone_sse.access.answers import HttpAnswer
from cyclone_sse.access.http_client import (
    ANSWER_TIMEOUT,
    MAX_ANSWER,
    AnswerTooLong,
    HttpClient,
    NoAnswer,
    answer_in_time,
)
from cyclone_sse.values import server_url


class Peer:
    """A client, and the server at the other end of its connections."""

    def __init__(self, url: str = "http://127.0.0.1:8000/auth?site=1") -> None:
        self.reactor = MemoryReactorClock()
        self.client = HttpClient(url, 2, self.reactor)
        self.transport = StringTransport()
        self.results: list[Any] = []

    def get(self, query: str = "channels=a", **fields: str) -> Deferred[Any]:
        return self.watch(self.client.get(query, [*fields.items()]))

    def watch(self, request: Any) -> Deferred[Any]:
        d = Deferred.fromCoroutine(request)
        d.addBoth(self.results.append)
        return d

    def accept(self) -> None:
        """Accept the connection."""
        if self.reactor.unixClients:
            factory = self.reactor.unixClients[-1][1]
        else:
            factory = self.reactor.tcpClients[-1][2]
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def answer(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def failure(self) -> Exception:
        """What went wrong."""
        (failure,) = self.results
        error = failure.value
        assert isinstance(error, Exception)
        return error


def test_a_request_and_its_answer_in_pieces() -> None:
    peer = Peer()
    peer.get(Cookie="é", Host="www.example")
    peer.accept()
    head, _, _ = peer.transport.value().partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"GET /auth?site=1&channels=a HTTP/1.1"
    assert b"Cookie: \xe9" in lines
    assert [line for line in lines if line.startswith(b"Host:")] == [b"Host: www.example"]
    peer.answer(b"HTTP/1.1 401 x\r\nWWW-Authenticate: Session\r\nLocation: /x\r\n")
    peer.answer(b"Content-Length: 6\r\n\r\none")
    assert peer.results == []
    peer.answer(b"two")
    assert peer.results == [HttpAnswer(401, b"onetwo", "Session", "/x")]


def test_a_header_that_is_not_utf_8_does_not_hide_the_answer() -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(b'HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm="\xe9"\r\nContent-Length: 0\r\n\r\n')
    assert peer.results == [HttpAnswer(401, b"", 'Basic realm="\ufffd"')]


def test_a_connection_is_kept_for_the_next_request() -> None:
    peer = Peer()
    for _ in range(3):
        peer.get()
        if not hasattr(peer, "protocol"):
            peer.accept()
        # Each answer may be as long as the bound: it counts from the request on.
        peer.answer(b"HTTP/1.1 200 x\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
        peer.reactor.advance(0)
    assert [result.status for result in peer.results] == [200] * 3
    assert len(peer.reactor.tcpClients) == 1


def test_a_body_is_posted() -> None:
    peer = Peer("http://127.0.0.1:8000/seen")
    peer.watch(peer.client.post(b"{}", [("Content-Type", "application/json")]))
    peer.accept()
    assert peer.transport.value().startswith(b"POST /seen HTTP/1.1\r\n")
    assert peer.transport.value().endswith(b"\r\n\r\n{}")


def test_a_server_on_a_unix_socket() -> None:
    peer = Peer("unix:/run/app.sock:/auth?x=1")
    peer.get()
    assert peer.reactor.unixClients[0][0] == "/run/app.sock"
    peer.accept()
    assert peer.transport.value().startswith(b"GET /auth?x=1&channels=a HTTP/1.1\r\n")
    assert b"Host: localhost\r\n" in peer.transport.value()


def test_a_body_that_breaks_off() -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(b"HTTP/1.1 200 x\r\nContent-Length: 6\r\n\r\none")
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), ConnectionLost)


@pytest.mark.parametrize(
    "piece",
    [
        b"HTTP/1.1 200 x\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 x\r\n" + b"X-Header: of an endless answer\r\n" * 100,
        b"HTTP/1.1 102 wait\r\n\r\n" * 100,
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200,
    ],
)
def test_an_answer_without_end_is_cut_off(piece: bytes) -> None:
    """Whatever it consists of: headers and 1xx are not the body, and had no bound."""
    peer = Peer()
    peer.get()
    peer.accept()
    head, separator, body = piece.partition(b"\r\n\r\n")
    peer.answer(piece)
    more = body if separator and body else piece.partition(b"\r\n")[2]
    for _ in range(MAX_ANSWER // 500):
        if not peer.transport.disconnected:
            peer.answer(piece if head.endswith(b"wait") else more)
    assert peer.transport.disconnected
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), AnswerTooLong)


def test_one_long_read_of_a_body_without_a_length_is_no_short_body() -> None:
    """An empty 200 would allow everything that was asked for."""
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.answer(b"x" * MAX_ANSWER)
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), AnswerTooLong)


@pytest.mark.parametrize("status", [b"-200", b"600", b"9" * 4000])
def test_what_is_no_status_is_no_answer(status: bytes) -> None:
    """Each number became a label of the metrics, and a line of the log, with all its digits."""
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(b"HTTP/1.1 " + status + b" x\r\nContent-Length: 0\r\n\r\n")
    assert str(peer.failure()) == "its answer has no valid status"


def test_a_line_of_a_malformed_answer_is_not_logged_whole() -> None:
    peer = Peer()
    peer.watch(answer_in_time(peer.client.get("", []), peer.reactor))
    peer.accept()
    peer.answer(b"HTTP/1.1 " + b"x" * 10_000 + b"\r\n\r\n")
    failure = peer.failure()
    assert isinstance(failure, NoAnswer)
    assert len(str(failure)) < 300


HEAD = b"HTTP/1.1 200 x\r\nContent-Type: text/html\r\n\r\n"


@pytest.mark.parametrize("body", [b"", b"true"])
def test_a_body_without_a_length_ends_with_the_orderly_end_of_its_connection(body: bytes) -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(HEAD + body)
    peer.protocol.connectionLost(Failure(ConnectionDone()))
    assert peer.results == [HttpAnswer(200, body)]


@pytest.mark.parametrize("body", [b"", b"true"])
def test_a_body_without_a_length_is_incomplete_when_its_connection_is_reset(body: bytes) -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(HEAD + body)
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), ConnectionLost)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_interim_answers_within_a_body_without_a_length_leave_no_empty_body(version: bytes) -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.answer(HEAD)
    peer.answer((version + b" 102 in the text of a page\r\n") * 20)
    assert peer.transport.disconnected
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), AnswerTooLong)


def test_a_request_can_be_cancelled_before_there_is_a_connection() -> None:
    peer = Peer()
    peer.get().cancel()
    assert peer.results[0].check(CancelledError)


def test_a_request_can_be_cancelled_while_its_host_is_looked_up() -> None:
    peer = Peer("http://www.example/auth")

    class Slow:
        def resolveHostName(self, receiver: Any, *words: Any, **named: Any) -> None:
            """Look up without end."""

    resolver: Any = Slow()
    peer.reactor.nameResolver = resolver
    peer.get().cancel()
    assert peer.results[0].check(CancelledError)


def test_a_request_can_be_cancelled_before_there_is_an_answer() -> None:
    peer = Peer()
    asked = peer.get()
    peer.accept()
    asked.cancel()
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert peer.results[0].check(CancelledError)


def test_the_reason_of_a_failure_is_not_wrapped() -> None:
    peer = Peer()
    peer.get()
    peer.accept()
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(peer.failure(), ConnectionLost)


def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    peer = Peer()
    asked = peer.get()
    peer.accept()
    peer.answer(b"HTTP/1.1 200 x\r\nContent-Length: 6\r\n\r\none")
    asked.cancel()
    assert peer.transport.disconnecting or peer.transport.disconnected
    peer.protocol.connectionLost(Failure(ConnectionLost()))
    assert peer.results[0].check(CancelledError)
    assert len(peer.results) == 1


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (None, "has not answered in 5 seconds"),
        (ConnectionRefusedError(), "cannot be reached: Connection was refused by other side"),
    ],
)
def test_the_log_can_say_why_there_is_no_answer(error: Exception | None, problem: str) -> None:
    clock, answer = Clock(), Deferred[HttpAnswer]()

    async def request() -> HttpAnswer:
        return await answer

    asked = Deferred.fromCoroutine(answer_in_time(request(), clock))
    if error is None:
        clock.advance(ANSWER_TIMEOUT)
    else:
        answer.errback(error)
    found: list[Failure] = []
    asked.addErrback(found.append)
    assert isinstance(found[0].value, NoAnswer)
    assert str(found[0].value) == problem


@pytest.mark.slow
@given(st.one_of(st.text(), st.from_regex(r"\Ahttps?://[!-~éß ]{1,20}\Z")))
def test_a_url_that_passes_as_an_option_can_be_asked(value: str) -> None:
    try:
        server_url(value)
    except ValueError:
        return
    peer = Peer(value)
    peer.get()
    if not value.startswith("unix:"):
        uri = URI.fromBytes(value.encode())
        assert uri.host
        assert b"@" not in uri.netloc
    assert peer.results == [], "nothing has gone wrong before the connection"
