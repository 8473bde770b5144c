"""The log of all events that some channel still holds, in id order, each once in memory.

An event is released when the last channel drops it. When very many are dropped in one call, most of them
are released later. Without this, a channel of 100,000 events, or a thousand channels of a hundred, would be
freed in one turn of the reactor. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cyclone_sse.delivery.backlog import Backlog
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.sorted_log import SortedLog

FREED_AT_ONCE = 10  # events that are released in the call that drops them

_EVENT_OVERHEAD = 300  # bytes of an event in addition to its frame: the objects around it


class EventLog:
    """The events, and how many channels hold each. on_released: called with each event that is released.

    bytes: the memory that the events are taken to need.
    """

    def __init__(self, on_released: Callable[[Event], object]) -> None:
        self._on_released = on_released
        self._log: SortedLog[Event] = SortedLog()
        self._unheld: Backlog[Event] = Backlog()  # events that no channel holds, to be released
        self.bytes = 0

    def __len__(self) -> int:
        """The events that are not released."""
        return len(self._log)

    @property
    def has_unheld(self) -> bool:
        """Whether there may be events to be released."""
        return bool(self._unheld)

    def add(self, event: Event) -> None:
        """Add the newest event, with one holder: the history, until its channels have it."""
        event.holders = 1
        self._log.append(event.seq, event)
        self.bytes += len(event.frame) + _EVENT_OVERHEAD

    def drop(self, event: Event) -> None:
        """Count one holder less; without holders the event is released."""
        event.holders -= 1
        if not event.holders:
            self._release(event)

    def drop_all(self, events: Iterable[Event]) -> None:
        """Count one holder less for each of these, and release some of the events that have none."""
        unheld: list[Event] = []
        for event in events:
            event.holders -= 1
            if not event.holders:
                unheld.append(event)
        if unheld:
            self._unheld.add(unheld)
        self.release_some(FREED_AT_ONCE)

    def release_some(self, most: int) -> None:
        """Release events that no channel holds, up to this number."""
        for event in self._unheld.pop_some(most):
            self._release(event)

    def get(self, seq: int) -> Event | None:
        """The event at this position that is not released, if there is one."""
        return self._log.get(seq)

    def after(self, seq: int) -> Iterator[Event]:
        """The events after this position that are held. None must be added while they are read."""
        return (event for _, event in self._log.after(seq) if event.holders)

    def _release(self, event: Event) -> None:
        self._log.pop(event.seq)
        self.bytes -= len(event.frame) + _EVENT_OVERHEAD
        self._on_released(event)
