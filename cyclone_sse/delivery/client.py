"""A client as the hub knows it, whether a stream or a long poll.

A client has channels and a position, and is sent bytes; its class determines what happens to them. Knows
of a socket only that it can send, and nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import ClassVar, NamedTuple

from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.direct_socket import DirectSocket
from cyclone_sse.errors import Ending

NOT_LIVE = float("inf")  # `skip_until` of a client that is not due live events yet

# Values in place of a position, for bytes that are not an event.
KEEP = None  # kept in the queue: the history cannot repeat them
REPEATABLE = 0  # may be dropped from the queue: pings
RESET = -1  # the gap event of ids that were reset: positions before it mean nothing after it

Seq = int | None  # a position; a negative one is that of a gap event, which is not counted as an event


class Piece(NamedTuple):
    """Frames to send, and the position of each. data: the frames joined, if they are."""

    frames: Sequence[bytes]
    seqs: Sequence[Seq]
    data: bytes | None = None

    def joined(self) -> bytes:
        """The frames in one piece."""
        return b"".join(self.frames) if self.data is None else self.data


NOTHING = Piece((), ())


class Dropped(NamedTuple):
    """The events that were dropped from the queue of a slow client.

    after: the position that the client had reached; None: one from before ids were reset. events, bytes:
    their number and size.
    """

    after: int | None
    events: int
    bytes: int


class Sent(NamedTuple):
    """The number of events that were sent, and of their bytes."""

    events: int
    bytes: int


Render = Callable[[Sequence[Event]], bytes]
Refill = Callable[[], Piece]


class State(Enum):
    """The state of a client, which determines what happens to bytes that are sent to it.

    docs/architecture.md shows what leads from one to another.
    """

    CORKED = "corked"  # they wait for `open`, to leave together with the head
    OPEN = "open"  # they go straight to it
    FULL = "full"  # they wait until it has received the bytes before them
    CLOSING = "closing"  # they are dropped; those that wait are sent, then the connection ends
    GONE = "gone"  # they are dropped


# Looking up `State.OPEN` takes ten times as long as this name, in Python 3.11.
CORKED, OPEN, FULL, CLOSING, GONE = State


class Client:
    """One client; ``send`` and the methods below it depend on the kind of client.

    channels: the names to which the client is subscribed. client_id: the id that publications can exclude.
    expires: the end of its access, in seconds since the epoch. fields: whether events are sent with the names
    of their channels. last_event_id: the id with which the stream opens. last_sent_at: the time of the last
    bytes; None: the client has no id yet. ready_socket: its socket, if bytes can be sent to it directly; None
    while it is not open or bytes wait, and always if it shares no frames. renews_id: whether pings carry the
    present id, which this kind of client does not mistake for an event. shares_frames: whether it is sent the
    same bytes as others; otherwise events are passed to ``deliver``. skip_until: the position (`Event.seq`)
    after which live events are sent. user: the user to whom access was granted. wants_state: whether the
    states of its channels are sent when the stream opens without an id, and after a gap.
    """

    __slots__ = (
        "address",
        "channels",
        "client_id",
        "ending",
        "expires",
        "fields",
        "info",
        "last_event_id",
        "last_sent_at",
        "on_full",
        "on_open",
        "on_overflow",
        "opened_at",
        "ready_socket",
        "render",
        "renews_id",
        "shares_frames",
        "skip_until",
        "state",
        "user",
        "wants_presence",
        "wants_state",
    )

    is_poll: ClassVar[bool] = False  # it receives one answer, and sends the next request

    def __init__(self) -> None:
        self.state = CORKED
        self.ready_socket: DirectSocket | None = None
        self.channels: tuple[str, ...] = ()
        self.client_id: str | None = None
        self.user: str | None = None
        self.expires: float | None = None
        self.last_event_id: EventId | str | None = None
        self.skip_until: float = NOT_LIVE
        self.last_sent_at: float | None = None
        self.shares_frames = True
        self.fields = False
        self.renews_id = False
        self.address = ""  # of the client, for the operator
        self.opened_at = 0.0  # in the reactor's seconds
        self.wants_state = False
        self.info: str | None = None  # what other members of a channel see of the user, as JSON
        self.wants_presence = False  # it is sent the members of its channels
        self.render: Render | None = None  # how a custom application writes events to it
        self.ending: Ending | None = None  # why it ended, once it has
        self.on_open: Callable[[Client], None] | None = None  # called once, before its head leaves
        self.on_full: Callable[[Client], None] | None = None  # called when bytes start to wait
        self.on_overflow: Callable[[Client, Dropped], None] | None = None  # called when too many do

    @property
    def waiting_bytes(self) -> int:
        """The bytes that wait until the client reads."""
        return 0

    def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
        """Send these bytes to the client now, or, after the bytes before them, when there is room.

        frames: the parts of data, if there are several; these objects wait in place of data. seqs: the
        positions of the frames; without them the history cannot repeat the data.
        """
        raise NotImplementedError

    def queue_rest(self, frames: Sequence[bytes], seqs: Sequence[Seq], sent: int) -> None:
        """Send the rest of these frames, of which ``sent`` bytes have been sent, when there is room."""
        raise NotImplementedError

    def deliver(self, events: Sequence[Event]) -> Sent:
        """Render these events for this client and send them: polls and custom ``sendEvent`` need it."""
        raise NotImplementedError

    def catch_up(self, piece: Piece, refill: Refill) -> None:
        """Send the piece, and then the pieces that ``refill`` returns, as fast as the client reads.

        refill: called whenever there is room; returns the next piece, or an empty one after the last.
        """
        raise NotImplementedError

    def end(self, why: Ending) -> None:
        """End the stream after all waiting bytes have been sent."""
        raise NotImplementedError

    def abort(self, why: Ending) -> None:
        """End the stream at once, and drop the waiting bytes."""
        raise NotImplementedError

    def progress(self) -> object:
        """A value that changes whenever the client has received one of the bytes that wait for it."""
        raise NotImplementedError
