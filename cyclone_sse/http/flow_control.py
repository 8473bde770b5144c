"""Flow control of one connection: what a client does not read is not written, what is not needed is not read.

The transport says to it, as its push producer, when too much waits to be sent and when that was sent.
Reading may be paused and resumed as often as needed: the transport is called only when something changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class FlowControl:
    """transport: of the connection. on_room: called when what waited has been sent."""

    __slots__ = ("_on_room", "_reading", "_transport", "full")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
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

    def watch(self, on_room: Callable[[], None]) -> None:
        """Notice from now on when too much waits to be sent. Called before something is written."""
        if self._on_room is None:
            self._on_room = on_room
            self._transport.registerProducer(self, True)

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
