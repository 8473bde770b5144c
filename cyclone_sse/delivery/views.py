"""The events of one channel.

A view is a part of the log of all events: it holds the same objects, oldest first. Plain Python.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from cyclone_sse.delivery.events import Event

ENTRY_OVERHEAD = 20  # bytes of an event for each of its channels
CHANNEL_OVERHEAD = 450  # bytes of a channel in addition to its name and events

_seq = attrgetter("seq")
_published_at = attrgetter("published_at")


class Limits(NamedTuple):
    """The limits of a channel. size: events, 0 for none. ttl: seconds for which each is held."""

    size: int
    ttl: float


@dataclass(frozen=True, slots=True)
class HistoryFigures:
    """The present figures of the history. floors: channels without events whose floor is known."""

    bytes: int
    events: int
    channels: int
    floors: int


class View:
    """The events of one channel, oldest first.

    floor: the position after which nothing is missing; None: not known to be complete. bytes: each event
    counted in full.
    """

    __slots__ = ("bytes", "events", "floor", "limits", "name")

    def __init__(self, name: str, floor: int | None, limits: Limits) -> None:
        self.name = name
        self.floor = floor
        self.limits = limits
        self.events: list[Event] = []  # few, so that removing the first is cheap
        self.bytes = 0

    def after(self, seq: int) -> Iterator[Event]:
        """The events after that position, oldest first."""
        return islice(self.events, self.count_until(seq), None)

    def place(self, event: Event) -> int | None:
        """The index of an event, if it is held."""
        index = bisect_left(self.events, event.seq, key=_seq)
        return index if index < len(self.events) and self.events[index].seq == event.seq else None

    def count_until(self, seq: int) -> int:
        """The number of events up to this position."""
        return bisect_right(self.events, seq, key=_seq)

    def count_published_until(self, time: float) -> int:
        """The number of events that were published up to this time, in seconds: these are the first."""
        return bisect_right(self.events, time, key=_published_at)

    def pop_first(self) -> Event:
        """Remove the oldest event, and raise the floor to it unless it has a ``ttl``."""
        event = self.events.pop(0)
        self._note_removal(event)
        return event

    def pop_oldest(self, count: int) -> list[Event]:
        """Remove this number of the oldest events in the same way."""
        taken = self.events[:count]
        del self.events[:count]
        for event in taken:
            self._note_removal(event)
        return taken

    def _note_removal(self, event: Event) -> None:
        self.bytes -= len(event.frame) + ENTRY_OVERHEAD
        if event.ttl is None and (self.floor is None or self.floor < event.seq):
            self.floor = event.seq

    def append(self, event: Event) -> None:
        """Add an event. Its place is mostly the end; one with very many channels may come late to some."""
        if self.events and self.events[-1].seq > event.seq:
            self.events.insert(bisect_right(self.events, event.seq, key=_seq), event)
        else:
            self.events.append(event)
        self.bytes += len(event.frame) + ENTRY_OVERHEAD


def each_once(events: Iterable[Event]) -> Iterator[Event]:
    """The events, which are in id order, without repetitions."""
    last = None
    for event in events:
        if event is not last and (last is None or event.seq != last.seq):
            yield event
        last = event


def pop_each(views: dict[str, View]) -> Iterator[View]:
    """The views of a table, each of which is removed when it is read, and can be freed then."""
    while views:
        yield views.popitem()[1]
