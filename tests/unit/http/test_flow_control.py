"""What a client does not read is not written, and what is not needed is not read."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from cyclone_sse.http.connection import ANSWERS_AT_ONCE, REFUSAL_TIMEOUT
from cyclone_sse.http.flow_control import MOST_CORKED, FlowControl
from cyclone_sse.http.server_state import RUN_TIME
from cyclone_sse.http.unread_answers import UnreadAnswers
from tests.unit.fakes import FakeSocket
from tests.unit.http.peer import POLL, PUBLISH, STATS, SUBSCRIBE, MemoryServer, Peer


class Counting(StringTransport):
    """Counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        super().resumeProducing()


def fill(peer: Peer) -> None:
    """The client reads no more, and so much waits for it that the transport asks for no more."""
    peer.transport.room = 0
    peer.send(STATS)
    producer = peer.transport.producer
    assert producer is not None
    producer.pauseProducing()


def drain(peer: Peer) -> None:
    """The client has read it all."""
    peer.transport.read()
    producer = peer.transport.producer
    assert producer is not None
    producer.resumeProducing()


def test_the_transport_hears_of_changes_only() -> None:
    transport: Any = Counting()
    flow = FlowControl(transport, UnreadAnswers())
    for what in (flow.resume, flow.pause, flow.pause, flow.resume, flow.resume, flow.pause):
        what()
    assert transport.calls == ["pause", "resume", "pause"]


def test_room_is_told_until_it_is_released() -> None:
    transport: Any = StringTransport()
    flow = FlowControl(transport, UnreadAnswers())
    told: list[int] = []
    flow.write(b"a", lambda: told.append(1))
    flow.write(b"b", lambda: told.append(2))
    transport.producer.pauseProducing()
    assert flow.full
    transport.producer.resumeProducing()
    assert not flow.full
    flow.release()
    flow.release()
    assert transport.producer is None
    assert told == [1]


def test_what_the_socket_takes_never_goes_through_the_transport() -> None:
    socket = FakeSocket(room=5)
    flow = FlowControl(socket, UnreadAnswers())
    flow.write(b"abc", None)
    assert flow.nothing_waits
    assert not socket.buffer
    flow.write(b"defg", lambda: None)
    flow.write(b"h", lambda: None)  # the fake asserts that nothing overtakes what is in its buffer
    assert not flow.nothing_waits
    assert (bytes(socket.received), bytes(socket.buffer)) == (b"abcde", b"fgh")
    assert socket.producer is flow


def test_what_is_corked_is_written_at_once_and_in_order() -> None:
    socket = FakeSocket(room=7)
    flow = FlowControl(socket, UnreadAnswers())
    flow.cork()
    for part in (b"ab", b"cd"):
        flow.write(part, None)
        flow.cork()
    assert not socket.received
    flow.uncork(lambda: None)
    assert (socket.sends, bytes(socket.received)) == (1, b"abcd")
    flow.write(b"ef", None)
    flow.cork()
    flow.write(b"gh", None)
    flow.uncork(lambda: None)
    assert (bytes(socket.received), bytes(socket.buffer)) == (b"abcdefg", b"h")
    assert socket.producer is flow


def test_not_more_is_corked_than_a_limit() -> None:
    socket = FakeSocket()
    flow = FlowControl(socket, UnreadAnswers())
    flow.cork()
    flow.write(bytes(MOST_CORKED), None)
    assert not socket.sends
    flow.write(b"a", None)
    assert len(socket.received) == MOST_CORKED + 1


def test_what_is_corked_goes_before_a_stream_and_before_the_end() -> None:
    socket = FakeSocket()
    flow = FlowControl(socket, UnreadAnswers())
    flow.cork()
    flow.write(b"a", None)
    flow.release()
    assert bytes(socket.received) == b"a"
    flow.uncork(None)
    assert socket.sends == 1


@pytest.mark.parametrize(
    ("requests", "sends"),
    [
        ([PUBLISH * 5], 1),  # together
        ([PUBLISH, PUBLISH], 2),  # one after the other
        ([PUBLISH * 2 + PUBLISH[:30], PUBLISH[30:]], 2),  # without waiting for the rest of a request
        ([PUBLISH * 3 + SUBSCRIBE], 1),  # before the head of a stream, which the transport sends
        ([PUBLISH * 3 + b"GET / HTTP/1.1\r\n\r\n"], 1),  # with a refusal
    ],
)
def test_pipelined_requests_are_answered_with_one_write(requests: list[bytes], sends: int) -> None:
    peer = Peer()
    for data in requests:
        peer.send(data)
    count = sum(data.count(b" HTTP/1.1\r\n") for data in requests)
    assert len(peer.statuses) == count
    assert peer.transport.sends == sends


def test_a_broken_socket_is_left_to_the_transport() -> None:
    socket = FakeSocket()
    flow = FlowControl(socket, UnreadAnswers())
    socket.abortConnection()
    flow.write(b"abc", None)
    assert not flow.nothing_waits


def test_a_client_that_does_not_read_is_not_answered() -> None:
    peer = Peer()
    peer.send(STATS)
    fill(peer)  # 64 kB wait for it
    peer.send(STATS * 3)
    assert peer.statuses == [200]
    assert peer.transport.reading is False, "and nothing more is read"
    drain(peer)
    assert peer.statuses == [200] * 5
    assert peer.transport.reading is True


def test_clients_that_read_again_together_are_answered_in_several_turns() -> None:
    server = MemoryServer()
    peers = [server.peer() for _ in range(3)]
    for peer in peers:
        peer.send(STATS)
        fill(peer)
        peer.send(STATS)

    def slow(*_: object) -> str:
        server.clock.rightNow += 1.1 * RUN_TIME
        return "{}"

    server.broker.hub.stats_table.table = slow
    for peer in peers:
        drain(peer)
    assert [len(peer.statuses) for peer in peers] == [3, 2, 2]
    for answered in (2, 3):
        server.clock.turn()
        assert [len(peer.statuses) for peer in peers] == [3] * answered + [2] * (3 - answered)
    assert all(peer.transport.reading for peer in peers)


def test_nor_is_it_kept_for_ever() -> None:
    peer = Peer()
    peer.send(STATS)
    fill(peer)
    peer.send(STATS)
    peer.wait(peer.connections.idle_timeout + REFUSAL_TIMEOUT + 2)
    assert peer.transport.aborted


def test_many_requests_at_once_are_answered_in_turns() -> None:
    peer = Peer()
    peer.connection.dataReceived(STATS * (2 * ANSWERS_AT_ONCE + 5))
    assert len(peer.statuses) == ANSWERS_AT_ONCE
    assert peer.transport.reading is False
    peer.clock.pump([0, 0, 0])
    assert len(peer.statuses) == 2 * ANSWERS_AT_ONCE + 5
    assert peer.transport.reading is True


def test_nothing_is_read_ahead() -> None:
    """What waits to be answered costs its bytes, not a request each."""
    peer = Peer()
    peer.send(STATS)
    fill(peer)
    peer.send(STATS * 1000)
    reader = peer.connection._reader
    assert reader is not None
    assert len(reader.buffer) == len(STATS) * 1000
    assert peer.connection._request is None


def test_the_transport_of_a_stream_is_free_for_who_writes_to_it() -> None:
    peer = Peer()
    peer.send(STATS + SUBSCRIBE)
    assert peer.statuses == [200, 200]
    producer = peer.transport.producer
    assert producer is None or producer is not peer.connection._flow


def test_a_refused_client_may_send_on_and_is_read() -> None:
    """Or it would be reset before it has read why."""
    peer = Peer()
    peer.send(PUBLISH.replace(b"19", b"2000"))
    assert peer.statuses == [413]
    assert peer.transport.reading is True


def test_a_long_poll_with_a_body_that_is_not_read_has_its_head_at_once() -> None:
    peer = Peer()
    peer.send(b"GET /?channels=a HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: 2\r\n\r\nab" % POLL.encode())
    assert peer.statuses == [200]
