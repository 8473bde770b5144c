"""Events that end before the others of their channels: those with a ``ttl``.

Each call returns a limited number of channels. Without this, an event of very many channels would be dropped
in one turn of the reactor. Plain Python.
"""

from __future__ import annotations

from collections.abc import Iterator

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.delivery.events import Event


class Expiring:
    """The times at which these events end, in seconds."""

    def __init__(self) -> None:
        self._ends: Deadlines[Event] = Deadlines(0.1)
        self._over: list[tuple[Event, Iterator[str]]] = []  # with the channels that were not returned yet

    def set(self, event: Event) -> None:
        """Set the end of this event, if it has a ``ttl``."""
        if event.ttl is not None:
            self._ends.set(event, event.published_at + event.ttl)

    def clear(self, event: Event) -> None:
        """Clear the end of an event that was released."""
        if event.ttl is not None:
            self._ends.clear(event)

    def has_over(self, now: float) -> bool:
        """Whether there are events that are over, and not yet given for all their channels."""
        return bool(self._over) or self._ends.first <= now

    def over(self, now: float, most: int) -> Iterator[tuple[Event, str]]:
        """Each channel of the events that are over, up to this number. The next call continues."""
        if self._ends.first <= now:
            self._over += [(event, iter(event.channels)) for event in self._ends.pop_due(now, most)]
        for _ in range(most):
            if not self._over:
                return
            event, names = self._over[-1]
            name = next(names, None)
            if name is None:
                self._over.pop()
            else:
                yield event, name
