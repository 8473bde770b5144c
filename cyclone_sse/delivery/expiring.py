"""Events that end before the others of their channels: those with a ``ttl``.

Each call returns a limited number of channels. Without this, an event of very many channels would be dropped
in one turn of the reactor. Plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.delivery.backlog import Backlog
from cyclone_sse.delivery.events import Event


class Expiring:
    """The times at which these events end, in seconds."""

    def __init__(self) -> None:
        self._ends: Deadlines[Event] = Deadlines(0.1)
        self._over: Backlog[tuple[Event, str]] = Backlog()  # events that are over, with each channel

    def set(self, event: Event) -> None:
        """Set the end of this event, if it has a ``ttl``."""
        if event.ttl is not None:
            self._ends.set(event, event.published_at + event.ttl)

    def clear(self, event: Event) -> None:
        """Clear the end of an event that was released."""
        if event.ttl is not None:
            self._ends.clear(event)

    def has_over(self, now: float) -> bool:
        """Whether there may be events that are over, and not yet returned for all their channels."""
        return bool(self._over) or self._ends.first <= now

    def pop_over(self, now: float, most: int) -> Sequence[tuple[Event, str]]:
        """Each channel of the events that are over, up to this number. The next call continues."""
        if self._ends.first <= now:
            for event in self._ends.pop_due(now, most):
                self._over.add(zip(repeat(event), event.channels, strict=False))
        return self._over.pop_some(most)
