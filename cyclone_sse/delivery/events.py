"""The id and the bytes of an event.

An event is encoded once, when it is published, however many clients it goes to; so everything
here may cost microseconds for each event, but nothing for each client. Plain Python: no
reactor, no transport, and the clock is an argument.

The format is that of WHATWG HTML, section 9.2.5 and 9.2.6.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PING = b": sse ping\n\n"
GAP_TYPE = "sse-gap"

_COUNTER_BITS = 20  # a million events within one millisecond, before the next one is borrowed
_ID_FORM = re.compile(r"(\d{1,15})-(\d{1,7})-([0-9a-z]{1,16})", re.ASCII)


class EventId(NamedTuple):
    """``<ms>-<n>-<node>``: where an event stands in the order of the process that took it.

    ms: milliseconds since the epoch; n: a counter within the millisecond; node: the tag of the
    process.
    """

    ms: int
    n: int
    node: str

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Read an id that a client sent; None where it is not one of ours."""
        match = _ID_FORM.fullmatch(text)
        if match is None or int(match[2]) >> _COUNTER_BITS:
            return None
        return cls(int(match[1]), int(match[2]), match[3])

    @property
    def seq(self) -> int:
        """The id as one integer, for comparisons between ids of one process."""
        return seq_at(self.ms, self.n)

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}-{self.node}"


def seq_at(ms: int, n: int = 0) -> int:
    """The sequence number of the n-th event of the millisecond ``ms`` since the epoch."""
    return ms << _COUNTER_BITS | n


class EventIds:
    """Gives out ids that only ever grow, even when the clock steps back.

    clock: returns the time in seconds since the epoch. node: the tag of this process, random
    unless given.
    """

    def __init__(self, clock: Callable[[], float], node: str | None = None) -> None:
        self._clock = clock
        self.node = node or secrets.token_hex(3)
        self._last = seq_at(int(clock() * 1000))

    @property
    def last(self) -> int:
        """The sequence number up to which everything has been given out."""
        return self._last

    def next(self) -> EventId:
        """A new id, greater than every one before."""
        self._last = max(self._last + 1, seq_at(int(self._clock() * 1000)))
        return self._id(self._last)

    def mark(self) -> EventId:
        """The present position: not before any event there was, before every one to come."""
        self._last = max(self._last, seq_at(int(self._clock() * 1000)))
        return self._id(self._last)

    def _id(self, seq: int) -> EventId:
        return EventId(seq >> _COUNTER_BITS, seq & (1 << _COUNTER_BITS) - 1, self.node)


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One event, encoded. seq orders it; frame is what goes to every client as it is."""

    id: EventId
    frame: bytes
    seq: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seq", self.id.seq)

    @property
    def message(self) -> str:
        """What was published, with its line breaks as LF; the frame is the only copy kept."""
        lines = self.frame[:-2].split(b"\n")
        return b"\n".join(line[6:] for line in lines if line.startswith(b"data: ")).decode()


def encode(
    message: str | bytes, eid: object = None, event: str | None = None, retry: int | None = None
) -> bytes:
    """The bytes of one event.

    message: text, or its UTF-8 bytes; each line of it (they may end with CR, LF or CRLF)
    becomes a ``data:`` line. eid: the id, if any. event: the type, ``message`` if None.
    retry: milliseconds that the client shall wait before it reconnects.
    """
    data = message.encode() if isinstance(message, str) else message
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    head = b""
    if eid is not None:
        head += b"id: %s\n" % str(eid).encode()
    if event is not None:
        head += b"event: %s\n" % event.encode()
    if retry is not None:
        head += b"retry: %d\n" % retry
    return b"%sdata: %s\n\n" % (head, data)


def encode_gap(channels: Iterable[str], eid: object = None) -> bytes:
    """The event that tells a client in which channels it may have missed something."""
    return encode(json.dumps({"channels": sorted(channels)}), eid, GAP_TYPE)


def position(eid: object) -> bytes:
    """A line that moves the client's last event id and dispatches nothing by itself."""
    return b"id: %s\n" % str(eid).encode()
