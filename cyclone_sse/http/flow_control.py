"""Flow control of one connection: write only as fast as the client reads, and read only when needed.

Bytes are written to the socket directly, since the transport's buffer costs a second trip through the
reactor. When the socket is full, all bytes are written to the transport, which notifies this push producer
when too many bytes wait, and when they were sent. Reading may be paused and resumed as often as needed: the
transport is called only when something changes.

The answers to pipelined requests are held, and written together: each write wakes the client, which costs
more than making several answers.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from cyclone_sse.direct_socket import ClientTransport, direct_socket
from cyclone_sse.http.unread_answers import UnreadAnswers

MOST_CORKED = 64 * 1024  # bytes; more are sent at once


@implementer(IPushProducer)
class FlowControl:
    """The flow control of one connection. transport, socket: the connection's; socket is None if it
    has none. unread: the answers of all connections that wait. nothing_waits: the transport's own buffer is
    known to be empty. corked: the bytes that are held; None: write at once.
    """

    __slots__ = ("_on_room", "_reading", "_transport", "_unread", "corked", "full", "nothing_waits", "socket")

    def __init__(self, transport: ClientTransport, unread: UnreadAnswers) -> None:
        self._transport = transport
        self._unread = unread
        self.socket = direct_socket(transport)
        self.nothing_waits = self.socket is not None
        self._on_room: Callable[[], None] | None = None  # set while this is the transport's producer
        self._reading = True
        self.corked: list[bytes] | None = None
        self.full = False  # too many bytes wait in the transport

    def pause(self) -> None:
        """Stop reading."""
        if self._reading:
            self._reading = False
            self._transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if not self._reading:
            self._reading = True
            self._transport.resumeProducing()

    def cork(self) -> None:
        """Hold written bytes until the next ``uncork``, which must follow in this turn."""
        if self.corked is None:
            self.corked = []

    def uncork(self, on_room: Callable[[], None] | None) -> None:
        """Send the held bytes. on_room: see ``write``."""
        held, self.corked = self.corked, None
        if held:
            self.write(b"".join(held), on_room)

    def write(self, data: bytes, on_room: Callable[[], None] | None) -> None:
        """Send these bytes now, or after the waiting bytes, or with the next uncork.

        on_room: called, until the release, when too many bytes were waiting and have been sent.
        """
        if self.corked is not None:
            self.corked.append(data)
            if sum(map(len, self.corked)) > MOST_CORKED:
                self.uncork(on_room)
            return
        if self.nothing_waits and self.socket is not None:
            try:
                sent = self.socket.send(data)
            except OSError:  # there is no room; or the socket is broken, which the transport will notice
                sent = 0
            data = data[sent:]
            if not data:
                return
            self.nothing_waits = False
        if on_room is not None and self._on_room is None:
            self._on_room = on_room
            self._transport.registerProducer(self, True)
        self._transport.write(data)
        if self.full:
            self._unread.add(self._transport, len(data))

    def release(self) -> None:
        """Stop being the transport's producer, since a stream writes now, or since the transport is to close:
        with a producer it would not close.
        """
        self.uncork(None)
        if self._on_room is not None:
            self._on_room = None
            self._transport.unregisterProducer()
        self.full = False

    def lost(self) -> None:
        """Note that the connection is gone, and what waited for its client with it."""
        self.release()
        self._unread.discard(self._transport)

    # The transport calls these.

    def pauseProducing(self) -> None:
        """Note that too many bytes wait."""
        self.full = True

    def resumeProducing(self) -> None:
        """Continue: the waiting bytes were sent."""
        self.full = False
        self._unread.discard(self._transport)
        if self._on_room is not None:
            self._on_room()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` of the connection follows."""
