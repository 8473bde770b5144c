"""The floors of channels without events, in bounded memory.

When there are too many, the floor that was raised longest ago is forgotten, and becomes that of all unknown
channels if it is the highest of these: an unnecessary gap is better than a hidden one. Plain Python.
"""

from __future__ import annotations

from collections import OrderedDict

FLOORS = 100_000  # channels without events whose floor is still known, about 15 MB


class Floors:
    """The floors: channel -> the position after which no event is missing; None: not known to be complete.

    start: the floor of unknown channels.
    """

    def __init__(self, start: int | None) -> None:
        self.start = start
        self._floors: OrderedDict[str, int | None] = OrderedDict()

    def __len__(self) -> int:
        """The channels whose floor is known."""
        return len(self._floors)

    def of(self, channel: str) -> int | None:
        """The floor of a channel."""
        return self._floors.get(channel, self.start)

    def pop(self, channel: str) -> int | None:
        """Forget the floor of a channel, and return it."""
        return self._floors.pop(channel, self.start)

    def set(self, channel: str, seq: int | None) -> str | None:
        """Set a floor, which never sinks. Returns the channel that is forgotten for it, if one is."""
        before = self.of(channel)
        if seq is not None and before is not None:
            seq = max(seq, before)
        self._floors[channel] = seq
        self._floors.move_to_end(channel)
        if len(self._floors) <= FLOORS:
            return None
        name, forgotten = self._floors.popitem(last=False)
        if self.start is not None and forgotten is not None:  # an unknown start stays unknown
            self.start = max(self.start, forgotten)
        return name
