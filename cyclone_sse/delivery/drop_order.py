"""The order in which channels drop their events: the largest first, or the one that was quiet for longest.

Each call costs O(1), or a step for each ttl that channels have. Plain Python.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain

from cyclone_sse.delivery.views import View


class BySize:
    """Channels by the magnitude of their size, to find one of the largest at once.

    Among channels of one magnitude, it is the one that has had this magnitude for longest.
    """

    def __init__(self) -> None:
        # Without ordered dictionaries, finding the first costs a step for each that was removed before it.
        self._classes: list[OrderedDict[str, None]] = [OrderedDict() for _ in range(64)]
        self._class_of: dict[str, int] = {}

    def set(self, channel: str, size: int) -> None:
        """Set the size of a channel."""
        number = size.bit_length()
        before = self._class_of.get(channel)
        if before != number:
            if before is not None:
                del self._classes[before][channel]
            self._class_of[channel] = number
            self._classes[number][channel] = None

    def discard(self, channel: str) -> None:
        """Remove a channel, if it has a size."""
        number = self._class_of.pop(channel, None)
        if number is not None:
            del self._classes[number][channel]

    def largest(self) -> str | None:
        """One of the largest channels, if there is any."""
        for channels in reversed(self._classes):
            if channels:
                return next(iter(channels))
        return None


class ByAge:
    """Channels by their ttl, those of one ttl in the order of their newest events: ``of_ttl``."""

    def __init__(self) -> None:
        self.of_ttl: dict[float, OrderedDict[str, View]] = {}

    def add(self, view: View) -> None:
        """Add a channel, which has the newest event."""
        self.of_ttl.setdefault(view.limits.ttl, OrderedDict())[view.name] = view

    def renew(self, view: View) -> None:
        """Note that the channel has the newest event."""
        self.of_ttl[view.limits.ttl].move_to_end(view.name)

    def remove(self, view: View) -> None:
        """Remove a channel."""
        del self.of_ttl[view.limits.ttl][view.name]

    def names(self) -> list[str]:
        """The channels, those of one ttl in their order."""
        return list(chain.from_iterable(self.of_ttl.values()))

    def overdue(self, now: float) -> View | None:
        """A channel all of whose events are too old, if there is one."""
        for ttl, views in self.of_ttl.items():
            view = next(iter(views.values()), None)
            if view is not None and view.events[-1].published_at + ttl <= now:
                return view
        return None

    def least_recent(self) -> View | None:
        """The channel whose newest event is the oldest."""
        heads = [next(iter(views.values())) for views in self.of_ttl.values() if views]
        return min(heads, key=lambda view: view.events[-1].seq, default=None)
