"""The stream of one client over a socket, with a queue for bytes that cannot be sent at once.

The cost of fan-out is the kernel's ``send()``. Twisted's ``transport.write`` costs two ``epoll_ctl`` calls
and a trip through the reactor each time, and even its ``writeSomeData`` a microsecond, so bytes are sent
directly to the socket as long as nothing waits. The walk over the clients then bypasses even the ``send`` of
this class, and calls that of ``ready_socket``. When the socket is full, the rest is queued here, and the
transport, as the consumer of a pull producer, requests more when the socket has drained. The queue has the
frames themselves, not copies: an event is in memory once, for all slow clients that wait for it.

When more bytes than the limit wait, the events in the queue are dropped, except the one that is partly sent,
and the client is sent them from the history as it reads. So the limit bounds the memory for a slow client,
but only the stall timeout ends its stream.

Knows a transport and bytes; nothing of channels, HTTP or brokers.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.client import (
    CLOSING,
    CORKED,
    FULL,
    GONE,
    KEEP,
    OPEN,
    RESET,
    Client,
    Dropped,
    Piece,
    Refill,
    Sent,
    Seq,
    State,
)
from cyclone_sse.delivery.events import Event
from cyclone_sse.direct_socket import ClientTransport, DirectSocket
from cyclone_sse.errors import Ending

WRITE_SIZE = 64 * 1024  # bytes handed to the transport at a time, where they are a copy for each slow client
_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in Linux's struct tcp_info (linux/tcp.h), 8 bytes


@dataclass(frozen=True, slots=True)
class SocketFigures:
    """What waits for a client: frames in the queue, all bytes, and those of them in the transport."""

    frames: tuple[bytes, ...]
    waiting_bytes: int
    in_transport: int


@implementer(IPullProducer)
class SocketClient(Client):
    """The stream of one client over a socket, with or without TLS.

    transport: the connection. head: the first bytes of the response. limit: bytes that may wait for the
    client; a single write may be larger when nothing waits. socket: the connection's; None only where a
    subclass sends in another way. nothing_waits: the transport's own buffer is known to be empty.
    """

    __slots__ = (
        "_corked",
        "_in_transport",
        "_limit",
        "_offset",
        "_queue",
        "_refill",
        "_seqs",
        "_socket",
        "_unsent",
        "nothing_waits",
        "transport",
    )

    def __init__(
        self,
        transport: ClientTransport,
        head: bytes,
        limit: int,
        socket: DirectSocket | None,
        nothing_waits: bool = True,
    ) -> None:
        super().__init__()
        self.transport = transport
        self.nothing_waits = nothing_waits
        self._limit = limit
        # What leaves when the client opens: bytes, their frames, and the positions of these.
        self._corked: list[tuple[bytes, Sequence[bytes], Sequence[Seq]]] | None = [(head, (head,), (KEEP,))]
        self._queue: deque[bytes] | None = None  # None as long as nothing waits
        self._seqs: deque[Seq] | None = None  # of what is in the queue
        self._offset = 0  # bytes of the queue's first frame that have gone out
        self._unsent = 0  # bytes in the queue and in the transport
        self._in_transport = 0
        self._refill: Refill | None = None
        self._socket = socket

    def figures(self) -> SocketFigures:
        """The figures of this moment."""
        return SocketFigures(tuple(self._queue or ()), self._unsent, self._in_transport)

    @property
    def waiting_bytes(self) -> int:
        """The bytes in the queue and in the transport."""
        return self._unsent if self.state is FULL else 0

    def open(self) -> None:
        """Send the head, and in the same write what has been added to it since."""
        if self.state is not CORKED:
            return
        if self.on_open is not None:
            on_open, self.on_open = self.on_open, None
            on_open(self)
            if self.state is not CORKED:
                return  # an application has ended it
        assert self._corked is not None
        corked, self._corked = self._corked, None
        if not self.nothing_waits:
            # Earlier answers may still lie in the transport's own buffer.
            for _, frames, seqs in corked:
                self._enqueue(frames, seqs)
            self._wait()
            return
        self._enter(OPEN)
        data = corked[0][0] if len(corked) == 1 else b"".join([data for data, _, _ in corked])
        sent = self._try_to_send(data)
        if sent != len(data):
            frames = [frame for _, frames, _ in corked for frame in frames]
            self.queue_rest(frames, [seq for _, _, seqs in corked for seq in seqs], sent)
        elif self._refill is not None and self.state is OPEN:
            self._wait()

    def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
        """Send these bytes to the client now or, in their turn, when there is room for them."""
        if self.state is OPEN:
            sent = self._try_to_send(data)
            if sent != len(data):
                self.queue_rest(frames or (data,), seqs, sent)
        elif self.state is FULL:
            if self._unsent and self._unsent + len(data) > self._limit:
                self._overflow(frames or (data,), seqs)
            else:
                self._enqueue(frames or (data,), seqs)
        elif self.state is CORKED:
            assert self._corked is not None
            frames = frames or (data,)
            self._corked.append((data, frames, seqs or (KEEP,) * len(frames)))

    def queue_rest(self, frames: Sequence[bytes], seqs: Sequence[Seq], sent: int) -> None:
        """Queue what is left of these frames after the first ``sent`` bytes, and wait for room."""
        for index, frame in enumerate(frames):
            if sent < len(frame):
                self._enqueue(frames[index:], seqs[index:])
                self._offset = sent
                self._unsent -= sent
                break
            sent -= len(frame)
        self._wait()

    def deliver(self, events: Sequence[Event]) -> Sent:
        """Render these events for this client, then send them."""
        data = self.render(events) if self.render is not None else Batch(events).rendering_for(self).data
        if data:
            self.send(data, (data,), (events[0].seq,))
        return Sent(len(events) if data else 0, len(data))

    def catch_up(self, piece: Piece, refill: Refill) -> None:
        """Send the piece, and then as fast as the client reads what ``refill`` returns."""
        if self.state in (CLOSING, GONE):
            return
        # First: without this, a client that falls back because the piece finds no room would never be live.
        self._refill = refill
        if piece.frames:
            self.send(piece.joined(), piece.frames, piece.seqs)
        if self.state is OPEN:
            self._wait()

    def end(self, why: Ending) -> None:
        """End the stream after all waiting bytes have been sent."""
        if self.state is CORKED:
            self.open()
        waiting = self.state is FULL
        if self.state in (OPEN, FULL):
            self.ending = why
            self._enter(CLOSING)
            if not waiting:
                self._close()

    def lost(self) -> None:
        """Release everything: the connection is gone."""
        self._enter(GONE)
        if self.ending is None:
            self.ending = Ending.LEFT
        self._corked = None
        self._queue = self._seqs = self._refill = None
        self.on_full = self.on_open = self.on_overflow = None
        self._unsent = 0

    def abort(self, why: Ending) -> None:
        """End the connection at once."""
        if self.state is not GONE:
            self._abort(why)

    def progress(self) -> object:
        """The number of bytes that the client's kernel has acknowledged."""
        try:
            info = self.transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
            return struct.unpack_from("=Q", info, _BYTES_ACKED)[0]
        except (AttributeError, OSError, struct.error):
            # Not TCP, or not Linux: the next best is what has left the queue.
            return self._unsent

    def _try_to_send(self, data: bytes) -> int:
        """Send; returns the number of bytes that need not be queued: all, if the client has left."""
        try:
            return self._send_now(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._abort(Ending.LEFT)
            return len(data)

    def _send_now(self, data: bytes) -> int:
        assert self._socket is not None
        return self._socket.send(data)

    def _enter(self, state: State) -> None:
        self.state = state
        self.ready_socket = self._socket if state is OPEN and self.shares_frames else None

    def _enqueue(self, frames: Sequence[bytes], seqs: Sequence[Seq]) -> None:
        if self._queue is None or self._seqs is None:
            self._queue, self._seqs = deque(), deque()
        self._queue.extend(frames)
        self._seqs.extend(seqs or repeat(KEEP, len(frames)))
        self._unsent += sum(map(len, frames))

    def _overflow(self, frames: Sequence[bytes], seqs: Sequence[Seq]) -> None:
        """Drop these events and the waiting ones, except one that is partly sent, since the history has them.

        Other bytes stay in the queue. If these alone exceed the limit, the client is cut off.
        """
        queue, positions = self._queue or (), self._seqs or ()
        self._queue, self._seqs = deque(), deque()
        self._unsent = self._in_transport - self._offset
        first: Seq = None
        events = size = 0
        waiting = chain(zip(queue, positions, strict=True), zip(frames, seqs or repeat(KEEP), strict=False))
        for number, (frame, seq) in enumerate(waiting):
            if seq is KEEP or (not number and self._offset):
                self._enqueue((frame,), (seq,))
                continue
            if seq == RESET or (seq and first is None):
                first = seq if seq == RESET else abs(seq)
            if seq > 0:
                events += 1
                size += len(frame)
        under_way = self._in_transport - self._offset + len(queue[0] if queue else b"")
        if self.on_overflow is None or self._unsent > self._limit + under_way:
            self._abort(Ending.SLOW)
        elif first is not None:
            self.on_overflow(self, Dropped(None if first == RESET else first - 1, events, size))

    def _wait(self) -> None:
        """Queue bytes from now on, until the transport has sent those that wait."""
        self._enter_full()
        self.transport.registerProducer(self, streaming=False)

    def _enter_full(self) -> None:
        self._enter(FULL)
        if self.on_full is not None:
            self.on_full(self)

    def resumeProducing(self) -> None:
        """Write more to the transport, whose buffer is empty, or to the socket again if nothing waits."""
        self._unsent -= self._in_transport
        data = self._pop_waiting()
        self._in_transport = len(data)
        if data:
            self.transport.write(data)
            return
        self.transport.unregisterProducer()
        if self.state is CLOSING:
            self._close()
        elif self.state is FULL:
            self._enter(OPEN)

    def stopProducing(self) -> None:
        """Do nothing: the transport was closed, and `lost` will follow."""

    def _pop_waiting(self) -> bytes:
        """The next waiting bytes, at most WRITE_SIZE; they count as unsent until the next call."""
        if not self._queue and self._refill is not None and self.state is not CLOSING:
            refill, self._refill = self._refill, None
            piece = refill()
            if piece.frames:
                self._refill = refill
                self._enqueue(piece.frames, piece.seqs)
        queue, seqs = self._queue, self._seqs
        if not queue or seqs is None:
            self._queue = self._seqs = None
            return b""
        parts: list[bytes] = []
        size = 0
        while queue and size < WRITE_SIZE:
            head = queue[0]
            end = min(len(head), self._offset + WRITE_SIZE - size)
            parts.append(head if end - self._offset == len(head) else head[self._offset : end])
            size += len(parts[-1])
            if end == len(head):
                queue.popleft()
                seqs.popleft()
                self._offset = 0
            else:
                self._offset = end
        return b"".join(parts)

    def _close(self) -> None:
        self.transport.loseConnection()

    def _abort(self, why: Ending) -> None:
        self.ending = self.ending or why
        self.lost()
        self.transport.abortConnection()
