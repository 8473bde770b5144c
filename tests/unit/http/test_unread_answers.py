"""The memory of answers that clients do not read."""

from __future__ import annotations

from urllib.parse import urlencode

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.http.unread_answers import UnreadAnswers
from tests.unit.fakes import FakeSocket
from tests.unit.http.peer import FORM, MemoryServer, Peer


def with_state(size: int) -> MemoryServer:
    """A server with a channel whose state has this many bytes."""
    server = MemoryServer({"max-body": 2 * size})
    body = urlencode({"channel": "a", "keep": "1", "message": "x" * size}).encode()
    assert server.request("POST", "/publish", FORM, body=body)[0] == 200
    return server


def asks_for_state(server: MemoryServer) -> Peer:
    """A client that asks for a state, and reads nothing."""
    peer = server.peer()
    peer.transport.room = 0
    write = peer.transport.write

    def fill(data: bytes) -> None:
        write(data)
        peer.transport.producer.pauseProducing()

    peer.transport.write = fill  # type: ignore[method-assign]
    peer.send(b"GET /state?channel=a HTTP/1.1\r\nHost: x\r\n\r\n")
    return peer


def test_the_answers_that_have_waited_longest_are_cut_off_beyond_the_limit() -> None:
    unread = UnreadAnswers(100)
    sockets = [FakeSocket() for _ in range(4)]
    for socket in sockets[:3]:
        unread.add(socket, 40)
    assert [each.aborted for each in sockets] == [True, False, False, False]
    unread.discard(sockets[1])  # it has read
    unread.add(sockets[3], 40)
    unread.add(sockets[3], 10)
    assert [each.aborted for each in sockets] == [True, False, False, False]
    assert unread.bytes == 90
    for socket in sockets:
        unread.discard(socket)
    assert unread.bytes == 0


def test_a_single_answer_may_be_of_any_size() -> None:
    unread = UnreadAnswers(100)
    first, second = FakeSocket(), FakeSocket()
    unread.add(first, 1000)
    assert not first.aborted
    unread.add(second, 1)
    assert first.aborted
    assert not second.aborted


def test_states_that_are_not_read_do_not_fill_the_memory() -> None:
    server = with_state(2**20)
    server.connections.unread = UnreadAnswers(5 * 2**20)
    peers = [asks_for_state(server) for _ in range(20)]
    assert [each.transport.aborted for each in peers].count(False) == 4
    assert not peers[-1].transport.aborted
    assert server.connections.unread.bytes <= 5 * 2**20


def test_nothing_is_noted_of_answers_that_were_read_or_whose_client_is_gone() -> None:
    server = with_state(100_000)
    first, second = asks_for_state(server), asks_for_state(server)
    assert server.connections.unread.bytes > 200_000
    first.transport.read()
    first.transport.producer.resumeProducing()
    second.connection.connectionLost(Failure(ConnectionDone()))
    assert server.connections.unread.bytes == 0
