"""One client's socket: bytes in order, bounded, cut off when it is hopelessly slow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.tls import BufferingTLSTransport

from cyclone_sse.delivery.subscriber import BufferedSubscriber, Subscriber, subscriber_for
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


def test_a_transport_without_a_socket_of_its_own_is_written_to() -> None:
    class Wrapper:  # as around TLS: unknown attributes are those of the socket below
        def __getattr__(self, name: str) -> Any:
            return getattr(FakeSocket(), name)

    assert subscriber_for(FakeSocket()) is Subscriber
    assert subscriber_for(Wrapper()) is BufferedSubscriber
    # It has a getHandle too: that of OpenSSL, in which the bytes would stay.
    tls = BufferingTLSTransport.__new__(BufferingTLSTransport)
    assert subscriber_for(tls) is BufferedSubscriber


def test_what_fits_goes_out_at_once() -> None:
    socket = FakeSocket()
    subscriber = Subscriber(socket, b"head ")
    subscriber.send(b"one ")
    subscriber.send(b"two")
    assert socket.received == b"head one two"
    assert socket.producer is None


def test_what_was_written_before_goes_first() -> None:
    socket = FakeSocket(room=0)
    socket.write(b"the answer to an earlier request, ")
    subscriber = Subscriber(socket, b"head, ", fresh=False)
    subscriber.send(b"event")
    socket.read(None)
    assert socket.received == b"the answer to an earlier request, head, event"


sizes = st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=40)


@pytest.mark.parametrize("tls", [False, True])
@given(steps=sizes, room=st.integers(0, 200))
def test_bytes_arrive_in_order_or_the_client_is_cut(
    tls: bool, steps: list[tuple[bool, int]], room: int
) -> None:
    limit = 1000
    socket: Any = FakeTls() if tls else FakeSocket(room)
    subscriber = subscriber_for(socket)(socket, b"", limit)
    sent = b""
    for reads, size in steps:
        if reads:
            if not socket.aborted:
                socket.read(size)
            continue
        data = bytes(65 + (len(sent) + n) % 26 for n in range(size))
        subscriber.send(data)
        if socket.aborted:
            assert subscriber.too_slow
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
    subscriber = subscriber_for(socket)(socket, b"")
    subscriber.send(b"x" * 150)
    subscriber.send(b"y" * 150)
    subscriber.close()
    subscriber.send(b"too late")
    assert not socket.closed
    for _ in range(3):
        if not socket.closed:
            socket.read(None)
    assert socket.received + socket.buffer == b"x" * 150 + b"y" * 150
    assert socket.closed


def test_a_single_large_write_is_no_reason_to_cut() -> None:
    socket = FakeSocket(room=10)
    subscriber = Subscriber(socket, b"", limit=100)
    subscriber.send(b"x" * 500_000)
    assert not socket.aborted
    socket.read(None)
    assert len(socket.received) == 500_000


def test_a_broken_connection_ends_the_stream_quietly() -> None:
    socket = FakeSocket()
    subscriber = Subscriber(socket, b"")
    socket.closed = True
    subscriber.send(b"x")
    subscriber.send(b"y")
    assert socket.aborted
    assert not subscriber.too_slow


@given(pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=20), room=st.integers(0, 60))
def test_what_was_missed_goes_out_as_fast_as_it_is_read(pieces: list[bytes], room: int) -> None:
    socket = FakeSocket(room)
    subscriber = Subscriber(socket, b"", limit=10)
    left = list(pieces)
    subscriber.catch_up(lambda: left.pop(0) if left else b"")
    assert len(b"".join(pieces)) - sum(map(len, left)) - len(socket.received) <= 50, "one piece at a time"
    for _ in range(100):
        socket.read(17)
    assert socket.received == b"".join(pieces)
    assert not socket.aborted
