"""One client: write at once, queue the rest, cut it off when it is hopelessly slow.

The cost of fan-out is the kernel's ``send()``. ``SocketClient.send`` runs for each client and
write and must add next to nothing to it: no timer, Deferred or allocation on its way. Twisted's
``transport.write`` costs two ``epoll_ctl`` calls and a trip through the reactor each time, and
even its ``writeSomeData`` a microsecond, so bytes go straight to the socket as long as nothing
waits. When it is full, the rest waits here, and the transport, asked as a pull producer, says
when it has drained. What waits is the frames themselves, not copies: an event is in memory once,
however many slow clients wait for it.

The states of a subscriber, and what leads from one to the other::

    CORKED --open()--> OPEN <--the socket is full / has drained--> FULL
    any of these --end()--> CLOSING --all has gone out, or lost()--> GONE

Knows a transport and bytes; nothing of channels, HTTP or brokers.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from cyclone_sse.delivery.client import Client, Refill, State
from cyclone_sse.delivery.events import Event
from cyclone_sse.errors import Ending

BUFFER = 1024 * 1024  # bytes that may wait for a client

PIECE = 64 * 1024  # bytes handed to the transport at a time, where they are a copy for each slow client
_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in Linux's struct tcp_info (linux/tcp.h), 8 bytes


_OPEN = State.OPEN


@implementer(IPullProducer)
class SocketClient(Client):
    """The stream of one client over a plain TCP connection.

    transport: the connection. head: the first bytes of the response. limit: bytes that may wait
    for the client; a single write may be larger when nothing waits. first_response: nothing was written
    on this connection before, so that the transport's own buffer is known to be empty.
    """

    __slots__ = (
        "_in_transport",
        "_limit",
        "_offset",
        "_queue",
        "_refill",
        "_unsent",
        "_write",
        "first_response",
        "transport",
    )

    def __init__(self, transport: Any, head: bytes, limit: int = BUFFER, first_response: bool = True) -> None:
        super().__init__()
        self.transport = transport
        self.first_response = first_response
        self._limit = limit
        self._queue: deque[bytes] | None = deque((head,))  # made when needed
        self._offset = 0  # bytes of the queue's first piece that have gone out
        self._unsent = len(head)  # bytes in the queue and in the transport
        self._in_transport = 0
        self._refill: Refill | None = None
        self._write: Callable[[bytes], int] = self._writer()

    def _writer(self) -> Callable[[bytes], int]:
        write: Callable[[bytes], int] = self.transport.getHandle().send
        return write

    def open(self) -> None:
        """Send the head, and in the same write whatever has been added to it since."""
        if self.state is not State.CORKED:
            return
        if not self.first_response:
            # Earlier answers may still lie in the transport's own buffer.
            self._wait()
            return
        assert self._queue is not None
        data = b"".join(self._queue)
        self._queue, self._unsent = None, 0
        self.state = State.OPEN
        self.send(data)
        if self._refill is not None and self.state is State.OPEN:
            self._wait()

    def send(self, data: bytes, frames: Sequence[bytes] = ()) -> None:
        """Give the client these bytes now or, in their turn, when there is room for them."""
        if self.state is _OPEN:
            try:
                sent = self._write(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._abort(Ending.LEFT)
                return
            if sent != len(data):
                self._hold(frames or (data,), sent)
        elif self.state is State.FULL or self.state is State.CORKED:
            if self._unsent and self._unsent + len(data) > self._limit and self.state is State.FULL:
                self._abort(Ending.SLOW)
            else:
                self._enqueue(frames or (data,))

    def deliver(self, events: Sequence[Event]) -> None:
        """Render these events for this client, then send."""
        data = self.rendered(events)
        if data:
            self.send(data)

    def catch_up(self, frames: Sequence[bytes], refill: Refill) -> None:
        """Send these, and then as fast as the client reads what ``refill`` gives."""
        self.send(b"".join(frames), frames)
        if self.state not in (State.CLOSING, State.GONE):
            self._refill = refill
            if self.state is _OPEN:
                self._wait()

    def end(self, why: Ending) -> None:
        """End the stream when everything that waits has gone out."""
        if self.state is State.CORKED:
            self.open()
        waiting = self.state is State.FULL
        if self.state in (State.OPEN, State.FULL):
            self.ending = why
            self.state = State.CLOSING
            if not waiting:
                self._close()

    def lost(self) -> None:
        """The connection is gone: let go of everything."""
        self.state = State.GONE
        if self.ending is None:
            self.ending = Ending.LEFT
        self._queue = self._refill = self.on_full = None
        self._unsent = 0

    def abort(self, why: Ending) -> None:
        """End the connection at once."""
        if self.state is not State.GONE:
            self._abort(why)

    def progress(self) -> object:
        """The bytes that the client's kernel has taken."""
        try:
            info = self.transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
            return struct.unpack_from("=Q", info, _BYTES_ACKED)[0]
        except (AttributeError, OSError, struct.error):
            # Not TCP, or not Linux: then what left the queue has to do.
            return self._unsent

    def _hold(self, frames: Iterable[bytes], sent: int) -> None:
        """Let these wait, but for the first ``sent`` bytes of them."""
        for frame in frames:
            if sent >= len(frame):
                sent -= len(frame)
                continue
            if not self._queue:
                self._offset = sent
            self._enqueue((frame,))
            self._unsent -= sent
            sent = 0
        self._wait()

    def _enqueue(self, frames: Iterable[bytes]) -> None:
        if self._queue is None:
            self._queue = deque()
        for frame in frames:
            self._queue.append(frame)
            self._unsent += len(frame)

    def _wait(self) -> None:
        self.state = State.FULL
        if self.on_full is not None:
            self.on_full(self)
        self.transport.registerProducer(self, streaming=False)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty: give it more, or go back to writing at once."""
        self._unsent -= self._in_transport
        data = self._next()
        self._in_transport = len(data)
        if data:
            self.transport.write(data)
            return
        self.transport.unregisterProducer()
        if self.state is State.CLOSING:
            self._close()
        elif self.state is State.FULL:
            self.state = State.OPEN

    def stopProducing(self) -> None:
        """The transport was closed; `lost` will follow."""

    def _next(self) -> bytes:
        """A piece of what waits, b"" if nothing does; it counts as unsent until the next call."""
        if not self._queue and self._refill is not None and self.state is not State.CLOSING:
            frames = self._refill()
            if not frames:
                self._refill = None
            self._enqueue(frames)
        queue = self._queue
        if not queue:
            self._queue = None
            return b""
        pieces: list[bytes] = []
        size = 0
        while queue and size < PIECE:
            head = queue[0]
            end = min(len(head), self._offset + PIECE - size)
            pieces.append(head if end - self._offset == len(head) else head[self._offset : end])
            size += len(pieces[-1])
            if end == len(head):
                queue.popleft()
                self._offset = 0
            else:
                self._offset = end
        return b"".join(pieces)

    def _close(self) -> None:
        self.transport.loseConnection()

    def _abort(self, why: Ending) -> None:
        self.ending = self.ending or why
        self.lost()
        self.transport.abortConnection()
