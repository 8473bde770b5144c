"""The id and the bytes of an event.

An event is encoded once, when it is published, for all of its clients. So these functions may cost
microseconds for each event, but nothing for each client. Plain Python: no reactor, no transport, and the
clock is an argument.

The format is that of WHATWG HTML, sections 9.2.5 and 9.2.6.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

PING = b": sse ping\n\n"
GAP_TYPE = "sse-gap"
EXPIRED_TYPE = "sse-expired"
PRESENCE_TYPE = "sse-presence"

# Each of the two numbers of an id has 64 bits, as in a Redis stream, where any program may choose them.
_NUMBER_BITS = 64
_COUNTER = (1 << _NUMBER_BITS) - 1  # the bits of the second number
_LONGEST_ID = 20 + 1 + 20 + 1 + 16  # characters; without it, the cache would keep long texts of clients
_ID_FORM = re.compile(r"(\d{1,20})-(\d{1,20})-([0-9a-z]{1,16})", re.ASCII)
_FIELD_BREAK = re.compile(r"[\r\n\0]")
_LF, _CR = b"\n\r"  # as numbers: `in` finds a number in bytes six times as fast as bytes


class EventId(NamedTuple):
    """The id ``<ms>-<n>-<node>`` of an event, by which the events of a process are ordered.

    seq: milliseconds since the epoch and a counter within the millisecond, as one integer, for comparisons
    between ids of one process. node: the tag of the source of ids, which is a process, its history file, or
    a Redis stream.
    """

    seq: int
    node: str

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Read an id that a client sent; None if it does not have the form of an id."""
        return _parse(text) if len(text) <= _LONGEST_ID else None

    @classmethod
    def of(cls, ms: int, n: int, node: str) -> EventId:
        """The id of the n-th event of the millisecond ``ms`` since the epoch."""
        return cls(seq_at(ms, n), node)

    @property
    def ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.seq >> _NUMBER_BITS

    @property
    def n(self) -> int:
        """The counter within the millisecond."""
        return self.seq & _COUNTER

    def __str__(self) -> str:
        return f"{self.seq >> _NUMBER_BITS}-{self.seq & _COUNTER}-{self.node}"


@lru_cache(256)  # clients of a channel that reconnect together mostly have the same id
def _parse(text: str) -> EventId | None:
    match = _ID_FORM.fullmatch(text)
    if match is None:
        return None
    ms, n = int(match[1]), int(match[2])
    return None if (ms | n) >> _NUMBER_BITS else EventId.of(ms, n, match[3])


def seq_at(ms: int, n: int = 0) -> int:
    """The sequence number of the n-th event of the millisecond ``ms`` since the epoch."""
    return ms << _NUMBER_BITS | n


def ms_and_n(seq: int) -> tuple[int, int]:
    """The milliseconds and the counter of a sequence number: the opposite of ``seq_at``."""
    return seq >> _NUMBER_BITS, seq & _COUNTER


class EventIds:
    """A source of ids that always grow, even when the clock steps back.

    clock: returns the time in seconds since the epoch; None if all ids come from elsewhere (``follow``).
    node: the tag of this process, random unless given. last: the sequence number of the last id, after which
    to continue. old: the one up to which events are older than the last reset. from_elsewhere: whether all
    ids come from elsewhere, and so are the same in all processes.
    """

    def __init__(self, clock: Callable[[], float] | None, node: str | None = None, last: int = 0) -> None:
        self._clock = clock
        self.from_elsewhere = clock is None
        self.node = node or secrets.token_hex(3)
        self.former: set[str] = set()  # former tags of this process, whose ids are lost
        self.last = last
        self.old = 0
        self._catch_up()
        self._now = EventId(self.last, self.node)

    def next(self) -> EventId:
        """Assign a new id, greater than all before."""
        self.last += 1
        self._catch_up()
        return EventId(self.last, self.node)

    def now(self) -> EventId:
        """Return an id for this moment: at least the last event's, less than the next one's."""
        self._catch_up()
        if self._now.seq != self.last or self._now.node != self.node:
            self._now = EventId(self.last, self.node)  # many clients ask in one millisecond
        return self._now

    def present(self) -> EventId:
        """Return the id for a client that comes now, without one.

        As `now`, but not before old events that are still to be read again. Without this, these would be new
        for the client.
        """
        return self.now() if self.last >= self.old else EventId(self.old, self.node)

    def follow(self, eid: EventId) -> None:
        """Make an id that was assigned elsewhere, with our tag, the present position."""
        self.last = max(self.last, eid.seq)

    def reset(self, node: str, last: int, old: int = 0) -> None:
        """Continue from another position with another tag, even if the position is lower.

        old: the position up to which the events that follow are old ones.
        """
        self.old = old
        self.former.add(self.node)
        self.former.discard(node)
        self.node = node
        self.last = last

    def _catch_up(self) -> None:
        if self._clock is not None:
            self.last = max(self.last, seq_at(int(self._clock() * 1000)))


class Event:
    """One encoded event. seq, node: its id. frame: the bytes that clients are sent.

    seq is its position in the order of events. channels: the names under which it was published. patterns:
    the subscribed patterns that match them. excluded: the id of a client that does not receive it. ttl:
    seconds for which the history keeps it, if fewer than for other events. key: its idempotency key.
    published_at: in the reactor's seconds. holders: the number of channels whose history has it. row: its row
    in the history file, 0 if none.
    """

    __slots__ = (
        "__weakref__",
        "channels",
        "excluded",
        "frame",
        "holders",
        "key",
        "node",
        "patterns",
        "published_at",
        "row",
        "seq",
        "ttl",
    )

    def __init__(self, eid: EventId, frame: bytes, channels: Sequence[str] = ()) -> None:
        self.node = eid.node
        self.seq = eid.seq
        self.frame = frame
        self.channels = channels
        self.patterns: Sequence[str] = ()
        self.excluded: str | None = None
        self.ttl: float | None = None
        self.key: str | None = None
        self.published_at = 0.0
        self.holders = 0
        self.row = 0

    @property
    def id(self) -> EventId:
        """Its id, as clients see it."""
        return EventId(self.seq, self.node)

    def excludes(self, client_id: str | None) -> bool:
        """Whether it is not for the client with this id, None for a client that has none."""
        return self.excluded is not None and self.excluded == client_id

    @property
    def id_text(self) -> str:
        """Its id as text, from the first line of its frame, which must be that of the id."""
        return self.frame[len(b"id: ") : self.frame.index(b"\n")].decode()

    @property
    def shown_id(self) -> str | None:
        """The same, or None if its frame has no id: see ``pieces``."""
        return self.id_text if self.frame.startswith(b"id: ") else None

    @property
    def names(self) -> Sequence[str]:
        """All names under which clients may be subscribed to it."""
        return (*self.channels, *self.patterns) if self.patterns else self.channels

    def __repr__(self) -> str:
        return f"<Event {self.id}>"

    @property
    def message(self) -> str:
        """The message with line breaks as LF, decoded from the frame, which is the only copy."""
        return b"\n".join(self._values(b"data: ")).decode()

    @property
    def type(self) -> str | None:
        """The event's type; None stands for ``message``."""
        types = self._values(b"event: ")
        return types[0].decode() if types else None

    @property
    def retry(self) -> int | None:
        """The reconnection time in milliseconds that the event sets, if it does."""
        values = self._values(b"retry: ")
        return int(values[0]) if values else None

    def _values(self, field: bytes) -> list[bytes]:
        lines = self.frame[:-2].split(b"\n")
        return [line[len(field) :] for line in lines if line.startswith(field)]


def encode(
    message: str | bytes, eid: object = None, event: str | None = None, retry: int | None = None
) -> bytes:
    """The bytes of one event.

    message: text, or its UTF-8 bytes; each line of it (they may end with CR, LF or CRLF)
    becomes a ``data:`` line. eid: the id, if any. event: the type, ``message`` if None.
    retry: milliseconds that the client waits before it reconnects. Raises ValueError if the id or the type
    has a line break, which would start another field.
    """
    data = message.encode() if isinstance(message, str) else message
    if _CR in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if _LF in data:
        data = data.replace(b"\n", b"\ndata: ")
    head = b"" if eid is None else id_line(eid)
    if event is not None:
        head += _field("event", event)
    if retry is not None:
        head += b"retry: %d\n" % retry
    return b"%sdata: %s\n\n" % (head, data)


def _field(name: str, value: object) -> bytes:
    text = str(value)
    if _FIELD_BREAK.search(text):
        raise ValueError(f"the {name} of an event cannot hold a line break or NUL: {text[:100]!r}")
    return f"{name}: {text}\n".encode()


def except_line(client_id: str) -> bytes:
    """The line with the id of the excluded client; empty for an id with a line break."""
    return b"" if _FIELD_BREAK.search(client_id) else b"except: %s\n" % client_id.encode()


def channel_line(name: str) -> bytes:
    """The line with the name of a channel; line breaks, which would end the line, are percent-encoded.

    EventSource ignores a field that it does not know (WHATWG HTML 9.2.6).
    """
    if "\n" in name or "\r" in name:
        name = name.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")
    return f"channel: {name}\n".encode()


def encode_gap(channels: Iterable[str], eid: object = None) -> bytes:
    """The event that names the channels of which a client may have missed events."""
    return encode(json.dumps({"channels": sorted(channels)}), eid, GAP_TYPE)


def encode_expired() -> bytes:
    """The last event of a stream whose access has expired."""
    return encode('{"reason": "expired"}', None, EXPIRED_TYPE)


def id_line(eid: object) -> bytes:
    """A line that moves the client's last event id and dispatches nothing by itself."""
    # `!s`: without it, the format of a tuple is asked for first, for each event.
    return f"id: {eid!s}\n".encode() if isinstance(eid, EventId) else _field("id", eid)
