"""One client's socket: bytes in order, bounded, and what happens when a client reads too slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cyclone_sse.delivery.client import NOTHING, REPEATABLE, RESET, Dropped, Piece, State
from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.errors import Ending
from tests.unit.delivery.clients import socket_client
from tests.unit.fakes import FakeSocket


class FakeTls:
    """A transport that only knows `write`: it takes everything, and asks for a pause above its mark."""

    MARK = 100

    def __init__(self) -> None:
        self.received = bytearray()
        self.buffer = bytearray()
        self.producer: Any = None
        self.paused = self.aborted = self.closed = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > self.MARK and not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def read(self, size: int | None = None) -> None:
        size = len(self.buffer) if size is None else size
        self.received += self.buffer[:size]
        del self.buffer[:size]
        if self.paused and len(self.buffer) <= self.MARK:
            self.paused = False
            self.producer.resumeProducing()

    def loseConnection(self) -> None:
        assert self.producer is None, "a TLS connection with a producer does not close"
        self.closed = True

    def abortConnection(self) -> None:
        self.aborted = True


def test_what_fits_goes_out_at_once() -> None:
    socket = FakeSocket()
    subscriber = socket_client(socket, b"head ")
    subscriber.open()
    subscriber.send(b"one ")
    subscriber.send(b"two")
    assert socket.received == b"head one two"
    assert socket.producer is None


def test_what_was_written_before_goes_first() -> None:
    socket = FakeSocket(room=0)
    socket.write(b"the answer to an earlier request, ")
    subscriber = SocketClient(socket, b"head, ", 1 << 20, socket, nothing_waits=False)
    subscriber.open()
    subscriber.send(b"event")
    socket.read(None)
    assert socket.received == b"the answer to an earlier request, head, event"


@pytest.mark.parametrize("room", [None, 0])
def test_a_client_that_is_ended_while_it_opens_stays_so(room: int | None) -> None:
    socket = FakeSocket(room)
    client = socket_client(socket, b"head")
    client.on_open = lambda _: client.end(Ending.ENDED)  # as by a custom application
    client.open()
    socket.read(None)
    assert socket.received == b"head"
    assert socket.closed
    assert client.state is State.CLOSING


def test_a_client_with_its_own_rendering_has_no_ready_socket_for_shared_bytes() -> None:
    subscriber = socket_client(FakeSocket())
    subscriber.shares_frames = False
    subscriber.open()
    assert subscriber.state is State.OPEN
    assert subscriber.ready_socket is None


def test_nothing_that_is_sent_while_full_does_no_harm() -> None:
    socket = FakeSocket(room=0)
    subscriber = socket_client(socket, b"")
    subscriber.open()
    for data in (b"A", b""):
        subscriber.send(data)
    socket.read(2)
    subscriber.send(b"BC")
    socket.read(None)
    assert socket.received == b"ABC"


sizes = st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=40)


def write_or_send(subscriber: SocketClient, data: bytes) -> None:
    """Send in the way of the walk, which uses the socket itself where there is one."""
    try:
        written = subscriber.ready_socket.send(data) if subscriber.ready_socket is not None else None
    except BlockingIOError:
        written = None
    if written is None:
        subscriber.send(data, (data,), (REPEATABLE,))
    elif written != len(data):
        subscriber.queue_rest((data,), (REPEATABLE,), written)


@pytest.mark.parametrize("send", [SocketClient.send, write_or_send])
@pytest.mark.parametrize("tls", [False, True])
@given(steps=sizes, room=st.integers(0, 200))
@example(steps=[(False, 1), (False, 0), (True, 2), (False, 2)], room=0)
def test_bytes_arrive_in_order_or_the_client_is_cut(
    tls: bool, send: Callable[[SocketClient, bytes], None], steps: list[tuple[bool, int]], room: int
) -> None:
    limit = 1000
    socket: Any = FakeTls() if tls else FakeSocket(room)
    subscriber = socket_client(socket, b"", limit)
    subscriber.open()
    sent = b""
    for reads, size in steps:
        if reads:
            if not socket.aborted:
                socket.read(size)
            continue
        data = bytes(65 + (len(sent) + n) % 26 for n in range(size))
        send(subscriber, data)
        if socket.aborted:
            assert subscriber.ending is Ending.SLOW
            break
        sent += data
        assert len(sent) - len(socket.received) - len(socket.buffer) <= limit
    assert sent.startswith(bytes(socket.received))
    if not socket.aborted:
        while socket.buffer or len(socket.received) < len(sent):
            socket.read(None)
        assert socket.received == sent


@pytest.mark.parametrize("kind", [FakeSocket, FakeTls])
def test_close_waits_for_what_is_queued(kind: Any) -> None:
    socket = FakeSocket(room=3) if kind is FakeSocket else FakeTls()
    subscriber = socket_client(socket)
    subscriber.open()
    subscriber.send(b"x" * 150)
    subscriber.send(b"y" * 150)
    subscriber.end(Ending.ENDED)
    subscriber.send(b"too late")
    assert not socket.closed
    for _ in range(3):
        if not socket.closed:
            socket.read(None)
    assert socket.received + socket.buffer == b"x" * 150 + b"y" * 150
    assert socket.closed


def test_a_single_large_write_is_no_reason_to_cut() -> None:
    socket = FakeSocket(room=10)
    subscriber = SocketClient(socket, b"", 100, socket)
    subscriber.open()
    subscriber.send(b"x" * 500_000)
    assert not socket.aborted
    socket.read(None)
    assert len(socket.received) == 500_000


def test_a_broken_connection_ends_the_stream_quietly() -> None:
    socket = FakeSocket()
    subscriber = socket_client(socket, b"")
    subscriber.open()
    socket.closed = True
    subscriber.send(b"x")
    subscriber.send(b"y")
    assert socket.aborted
    assert subscriber.ending is Ending.LEFT


@given(pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=20), room=st.integers(0, 60))
def test_what_was_missed_goes_out_as_fast_as_it_is_read(pieces: list[bytes], room: int) -> None:
    socket = FakeSocket(room)
    subscriber = SocketClient(socket, b"", 10, socket)
    subscriber.open()
    left = list(pieces)

    def refill() -> Piece:
        return Piece((left.pop(0),), (1,)) if left else NOTHING

    subscriber.catch_up(refill(), refill)
    assert len(b"".join(pieces)) - sum(map(len, left)) - len(socket.received) <= 50, "one piece at a time"
    for _ in range(100):
        socket.read(17)
    assert socket.received == b"".join(pieces)
    assert not socket.aborted
    assert subscriber.state is State.OPEN


def test_the_head_leaves_with_what_was_added_to_it() -> None:
    socket = FakeSocket()
    subscriber = socket_client(socket, b"head ")
    subscriber.send(b"missed ")
    assert not socket.received
    subscriber.open()
    assert socket.received == b"head missed "
    subscriber.send(b"live")
    assert socket.received == b"head missed live"
    assert socket.sends == 2


@given(frames=st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=6), room=st.integers(0, 40))
def test_what_waits_is_the_frames_not_a_copy(frames: list[bytes], room: int) -> None:
    socket = FakeSocket(room)
    subscriber = socket_client(socket, b"")
    subscriber.open()
    subscriber.send(b"".join(frames), frames)
    for frame in subscriber.figures().frames:
        assert any(frame is each for each in frames)
    socket.read(None)
    assert socket.received == b"".join(frames)


def test_on_full_is_called_once_when_bytes_wait() -> None:
    socket = FakeSocket(room=1)
    subscriber = socket_client(socket, b"")
    told: list[object] = []
    subscriber.on_full = told.append
    subscriber.open()
    subscriber.send(b"xy")
    subscriber.send(b"z")
    assert told == [subscriber]


class Slow:
    """A client that does not read, and what is dropped for it."""

    def __init__(self, room: int = 0, limit: int = 100) -> None:
        self.socket = FakeSocket(room)
        self.client = SocketClient(self.socket, b"", limit, self.socket)
        self.dropped: list[Dropped] = []
        self.client.on_overflow = lambda _, dropped: self.dropped.append(dropped)
        self.client.open()

    def send(self, *seqs: int | None, size: int = 30) -> None:
        frames = [bytes([65 + (seq or 0) % 26]) * size for seq in seqs]
        self.client.send(b"".join(frames), frames, seqs)


def test_a_client_that_is_too_slow_keeps_what_is_under_way_and_the_rest_is_dropped() -> None:
    slow = Slow(room=10)
    for seq in range(1, 5):
        slow.send(seq)
    assert slow.dropped == [Dropped(after=1, events=3, bytes=90)], "the first is with the transport"
    assert not slow.socket.aborted
    assert slow.client.ending is None
    slow.socket.read(None)
    assert slow.socket.received == b"B" * 30


def test_only_a_position_that_was_not_sent_at_all_is_dropped() -> None:
    slow = Slow()
    slow.send(1, 2, 3, 4, size=40_000)
    waiting = slow.client.figures()
    assert waiting.in_transport == 64 * 1024
    slow.send(5)
    assert slow.dropped[0] == Dropped(after=2, events=3, bytes=80_030), "the second is under way"
    assert slow.client.figures().waiting_bytes == 80_000
    slow.socket.read(None)
    assert slow.socket.received == b"B" * 40_000 + b"C" * 40_000


def test_what_the_history_cannot_repeat_stays_in_the_queue() -> None:
    slow = Slow(limit=160)
    slow.send(1)
    slow.send(2, None, 3, REPEATABLE)
    slow.send(4)
    assert slow.dropped == [Dropped(after=1, events=3, bytes=90)]
    slow.socket.read(None)
    assert slow.socket.received == b"B" * 30 + b"A" * 30


def test_a_client_that_catches_up_is_not_cut_off_for_a_little_that_cannot_be_repeated() -> None:
    slow = Slow(limit=1000)
    slow.send(1, 2, 3, size=40_000)
    slow.socket.read(10)
    for _ in range(10):
        slow.send(None)  # as of presence
        assert not slow.socket.aborted
    for _ in range(100):
        slow.send(None)
    assert slow.client.ending is Ending.SLOW, "so many of them are more than may wait"


def test_a_reset_of_ids_that_is_dropped_means_that_no_position_counts() -> None:
    slow = Slow(limit=130)
    slow.send(1)
    slow.send(2, 3, RESET)
    slow.send(4)
    assert slow.dropped[0].after is None


def test_a_client_that_does_not_read_what_cannot_be_repeated_is_cut_off() -> None:
    slow = Slow()
    slow.client.send(b"x" * 90)
    for _ in range(1000):
        slow.client.send(b"y" * 1000)
    assert slow.socket.aborted
    assert slow.client.ending is Ending.SLOW


def test_a_head_that_does_not_fit_waits_as_the_frames_of_which_it_consists() -> None:
    socket = FakeSocket(room=3)
    client = SocketClient(socket, b"head", 1 << 20, socket)
    shared = b"x" * 1000
    client.send(shared, (shared,), (1,))
    client.open()
    assert any(frame is shared for frame in client.figures().frames) or client.figures().in_transport
    socket.read(None)
    assert socket.received == b"head" + shared
