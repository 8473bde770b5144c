"""What the hub knows of a client, whether it holds a stream open or polls.

A client has channels, a position, and takes bytes; what becomes of these is its own affair.
Knows nothing of sockets or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import ClassVar

from cyclone_sse.delivery.events import Event, with_channels
from cyclone_sse.errors import Ending

NOT_LIVE = float("inf")  # `skip_until` of who hears nothing yet

Render = Callable[[Sequence[Event]], bytes]
Refill = Callable[[], Sequence[bytes]]


class State(Enum):
    """What becomes of bytes that are sent to a client."""

    CORKED = "corked"  # they wait for `open`, to leave together with the head
    OPEN = "open"  # they go straight to it
    FULL = "full"  # they wait until it has taken what came before
    CLOSING = "closing"  # they are dropped; what waits goes out, then the connection ends
    GONE = "gone"  # they are dropped


class Client:
    """One client; ``send`` and what follows it is the business of the kind of client."""

    __slots__ = (
        "channels",
        "ending",
        "expires",
        "fields",
        "info",
        "last_sent_at",
        "on_full",
        "presence",
        "render",
        "shares_frames",
        "skip_until",
        "state",
        "user",
    )

    is_poll: ClassVar[bool] = False  # it gets one answer and comes back for the next

    def __init__(self) -> None:
        self.state = State.CORKED
        self.channels: tuple[str, ...] = ()
        self.user: str | None = None  # who it is, where access was granted to somebody
        self.info: str | None = None  # what other members of a channel see of the user, as JSON
        self.presence = False  # it wants to be sent the members of its channels
        self.expires: float | None = None  # when its access ends, in the reactor's seconds
        self.skip_until: float = NOT_LIVE  # it is due live events after this position (`Event.seq`)
        self.last_sent_at: float | None = None  # when it was last sent something; None: it has no id yet
        self.shares_frames = True  # the bytes of events are all it wants; else it is given them by `deliver`
        self.fields = False  # it wants to be told the channels of each event
        self.render: Render | None = None  # how a custom application writes events to it
        self.ending: Ending | None = None  # why it ended, once it has
        self.on_full: Callable[[Client], None] | None = None  # told when something begins to wait

    def send(self, data: bytes, frames: Sequence[bytes] = ()) -> None:
        """Give the client these bytes now or, in their turn, when there is room for them.

        frames: the parts that data consists of, if there are several; they are what waits.
        """
        raise NotImplementedError

    def deliver(self, events: Sequence[Event]) -> None:
        """Render these events for this client, then send. Polling and an overridden ``sendEvent``
        need it; all others share the bytes that `send` gets."""
        raise NotImplementedError

    def catch_up(self, frames: Sequence[bytes], refill: Refill) -> None:
        """Send these, and then as fast as the client reads what ``refill`` gives.

        refill: called whenever there is room, gives the next frames, none after the last.
        """
        raise NotImplementedError

    def end(self, why: Ending) -> None:
        """End the stream when everything that waits has gone out."""
        raise NotImplementedError

    def abort(self, why: Ending) -> None:
        """End it at once, whatever waits."""
        raise NotImplementedError

    def progress(self) -> object:
        """Something that changes whenever the client has taken a byte of what waits for it."""
        raise NotImplementedError

    def rendered(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events for this client."""
        if self.render is not None:
            return self.render(events)
        if self.fields:
            mine = set(self.channels)
            return b"".join([with_channels(e.frame, [c for c in e.channels if c in mine]) for e in events])
        return b"".join([event.frame for event in events])
