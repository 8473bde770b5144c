"""One client: write at once, queue the rest, cut it off when it is hopelessly slow.

The cost of fan-out is the kernel's ``send()``. ``Subscriber.send`` runs for each client and
write and must add next to nothing to it: no timer, Deferred or allocation on its way. Twisted's
``transport.write`` costs two ``epoll_ctl`` calls and a trip through the reactor each time, and
even its ``writeSomeData`` a microsecond, so bytes go straight to the socket as long as nothing
waits. When it is full, the rest waits here, and the transport, asked as a pull producer, says
when it has drained.

Knows a transport and bytes; nothing of channels, HTTP or brokers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from cyclone_sse.delivery.events import Event

BUFFER = 1024 * 1024  # bytes that may wait for a client
NEVER = 1 << 80  # a position above every event: hears nothing yet
NOTHING_YET = -(1 << 30)  # `quiet` of a client that was never sent anything

_PIECE = 128 * 1024  # bytes handed to the transport at a time, what Twisted sends in one go


Render = Callable[[Sequence[Event]], bytes]


def join_frames(events: Sequence[Event]) -> bytes:
    """The bytes of these events as they are."""
    return b"".join([event.frame for event in events])


@implementer(IPullProducer)
class Subscriber:
    """The stream of one client over a plain TCP connection.

    transport: the connection. head: the first bytes of the response. limit: bytes that may wait
    for the client; a single write may be larger when nothing waits. fresh: nothing was written
    on this connection before, so that the transport's own buffer is known to be empty.
    """

    __slots__ = (
        "_closing",
        "_held",
        "_in_transport",
        "_limit",
        "_queue",
        "_refill",
        "_unsent",
        "_write",
        "after",
        "channels",
        "once",
        "plain",
        "quiet",
        "render",
        "too_slow",
        "transport",
    )

    def __init__(self, transport: Any, head: bytes, limit: int = BUFFER, fresh: bool = True) -> None:
        self.transport = transport
        self.channels: tuple[str, ...] = ()
        self.after = NEVER  # position (Event.seq) from which on it is due live events
        self.plain = True  # all it wants is the bytes of events: `send` will do, not `take`
        self.once = False  # long polling: the stream ends after the first event
        self.render: Render = join_frames  # the bytes of events for this client
        self.quiet = 0  # sweeps since something was sent, see `Broker`
        self.too_slow = False  # it was cut off
        self._limit = limit
        self._held = False  # something waits, or the stream has ended
        self._closing = False
        self._queue: deque[bytes | memoryview] | None = None  # made when first needed
        self._unsent = 0  # bytes in the queue and in the transport
        self._in_transport = 0
        self._refill: Callable[[], bytes] | None = None
        self._start(head, fresh)
        self.quiet = NOTHING_YET

    def _start(self, head: bytes, fresh: bool) -> None:
        self._write: Callable[[bytes], int] = self.transport.getHandle().send
        if fresh:
            self.send(head)
        else:
            self._wait(memoryview(head))

    def adapt(self, once: bool, render: Render | None) -> None:
        """Make it end after the first event, or give events another form."""
        self.once = once
        self.render = render or join_frames
        self.plain = not once and render is None

    def send(self, data: bytes) -> None:
        """Give the client these bytes now or, in their turn, when there is room for them."""
        self.quiet = 0
        if self._held:
            self._hold(data)
            return
        try:
            sent = self._write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._abort()
            return
        if sent != len(data):
            self._wait(memoryview(data)[sent:])

    def take(self, events: Sequence[Event]) -> None:
        """Give the client these events in its own way: what `send` is too plain for."""
        if not events:
            return
        self.send(self.render(events[:1] if self.once else events))
        if self.once:
            self.close()

    def catch_up(self, refill: Callable[[], bytes]) -> None:
        """Send what the client missed, as fast as it reads.

        refill: called whenever there is room, gives the next bytes, b"" after the last.
        """
        self._refill = refill
        while not self._held and self._refill is not None:
            data = self._refilled()
            if data:
                self.send(data)

    def close(self) -> None:
        """End the stream when everything that waits has gone out."""
        if not self._closing:
            self._closing = True
            if not self._held:
                self._held = True
                self._end()

    def lost(self) -> None:
        """The connection is gone: let go of everything."""
        self._held = self._closing = True
        self._queue = self._refill = None
        self._unsent = 0

    def _hold(self, data: bytes) -> None:
        if self._closing:
            return
        if self._unsent and self._unsent + len(data) > self._limit:
            self.too_slow = True
            self._abort()
            return
        self._enqueue(memoryview(data))

    def _enqueue(self, data: memoryview) -> None:
        # Views: whatever waits for many slow clients is held in memory once.
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self._unsent += len(data)

    def _wait(self, rest: memoryview) -> None:
        self._held = True
        self._enqueue(rest)
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
        if self._closing:
            self._end()
        else:
            self._held = False

    def stopProducing(self) -> None:
        """The transport was closed; `lost` will follow."""

    def _next(self) -> bytes:
        if self._queue:
            head = self._queue.popleft()
            if len(head) > _PIECE:
                self._queue.appendleft(head[_PIECE:])
                return bytes(head[:_PIECE])
            pieces, size = [head], len(head)
            while self._queue and size + len(self._queue[0]) <= _PIECE:
                pieces.append(self._queue.popleft())
                size += len(pieces[-1])
            return b"".join(pieces)
        if self._refill is not None and not self._closing:
            data = self._refilled()
            if len(data) > _PIECE:
                self._enqueue(memoryview(data))
                return self._next()
            self._unsent += len(data)
            return data
        return b""

    def _refilled(self) -> bytes:
        assert self._refill is not None
        data = self._refill()
        if not data:
            self._refill = None
        return data

    def _end(self) -> None:
        self.transport.loseConnection()

    def _abort(self) -> None:
        self.lost()
        self.transport.abortConnection()


@implementer(IPushProducer)
class BufferedSubscriber(Subscriber):
    """The stream of one client over a transport that only knows ``write``, TLS above all.

    The transport says when its buffer is full (``pauseProducing``); what comes then waits here,
    with the same bound.
    """

    __slots__ = ()

    def _start(self, head: bytes, fresh: bool) -> None:
        self._write = self._write_pieces
        self.transport.registerProducer(self, streaming=True)
        self.send(head)

    def _write_pieces(self, data: bytes) -> int:
        view = memoryview(data)
        sent = 0
        while sent < len(view) and not self._held:
            self.transport.write(bytes(view[sent : sent + _PIECE]))
            sent += _PIECE
        return min(sent, len(view))

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._held = True

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._held = False
        while not self._held:
            data = self._next()
            if not data:
                if self._closing:
                    self._held = True
                    self._end()
                return
            self._unsent -= len(data)
            self._write_pieces(data)

    def _wait(self, rest: memoryview) -> None:
        self._enqueue(rest)

    def _end(self) -> None:
        # A TLS transport does not close as long as somebody may have more for it.
        self.transport.unregisterProducer()
        self.transport.loseConnection()


def subscriber_for(transport: Any) -> type[Subscriber]:
    """The kind of subscriber for a transport.

    The class is asked, not the instance: the wrapper around a TLS connection passes unknown
    attributes on to the socket below it, where bytes would leave in clear. And not for
    ``getHandle``, of which a TLS connection has its own: what is sent there stays there.
    """
    if hasattr(type(transport), "writeSomeData"):
        return Subscriber
    return BufferedSubscriber
