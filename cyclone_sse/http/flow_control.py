"""Flow control of one connection: what a client does not read is not written, what is not needed is not read.

What a client takes at once is sent past the transport, whose buffer costs a second trip through the reactor.
From the first byte that the client does not take, everything goes through the transport. As its push producer
this is notified when too much waits to be sent, and when that was sent. Reading may be paused and resumed as
often as needed: the transport is called only when something changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from cyclone_sse.socket_send import socket_send


@implementer(IPushProducer)
class FlowControl:
    """transport: of the connection. on_room: called when what waited has been sent."""

    __slots__ = ("_on_room", "_reading", "_send", "_transport", "full")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send = socket_send(transport)  # None: bytes may wait in the transport
        self._on_room: Callable[[], None] | None = None  # set: we are the transport's producer
        self._reading = True
        self.full = False  # more waits to be sent than the transport likes

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

    @property
    def nothing_waits(self) -> bool:
        """Whether the transport's own buffer is known to be empty."""
        return self._send is not None

    def write(self, data: bytes, on_room: Callable[[], None] | None) -> None:
        """Send this, now or when the client has taken what waits.

        on_room: called, as long as this is not released, when too much waited and has been sent.
        """
        if self._send is not None:
            try:
                sent = self._send(data)
            except OSError:  # there is no room; or it is broken, which the transport finds, too
                sent = 0
            data = data[sent:]
            if not data:
                return
            self._send = None
        if on_room is not None and self._on_room is None:
            self._on_room = on_room
            self._transport.registerProducer(self, True)
        self._transport.write(data)

    def release(self) -> None:
        """Stop watching: a stream writes now, or the transport is to close when all is sent, which it would
        not do as long as it has a producer."""
        if self._on_room is not None:
            self._on_room = None
            self._transport.unregisterProducer()
        self.full = False

    # The transport calls these.

    def pauseProducing(self) -> None:
        """Remember that too much waits to be sent."""
        self.full = True

    def resumeProducing(self) -> None:
        """Go on: what waited was sent."""
        self.full = False
        if self._on_room is not None:
            self._on_room()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` of the connection follows."""
