"""Floors that are raised in slices: after an outage of a broker, those of all its channels.

A floor counts in every answer from the start, so that a client which resumes between two slices is told of
the gap. Costs O(1) for each channel. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

FLOORS_AT_ONCE = 1000  # channels of one slice: about 1 ms


class RisingFloors:
    """The channels whose floors are still to be raised. raise_floor: raises that of one channel."""

    def __init__(self, raise_floor: Callable[[str, int], object]) -> None:
        self._raise_floor = raise_floor
        self.waiting: dict[int, set[str]] = {}  # by position

    def start(self, channels: Iterable[str], seq: int) -> Generator[None, None, None]:
        """Raise the floors of these channels to this position, in slices."""
        self.waiting[seq] = names = set(channels)
        return self._raise(names, seq)

    def _raise(self, names: set[str], seq: int) -> Generator[None, None, None]:
        count = 0
        while names:
            self._raise_floor(names.pop(), seq)
            count += 1
            if not count % FLOORS_AT_ONCE:
                yield
        if self.waiting.get(seq) is names:
            del self.waiting[seq]

    def of(self, channel: str) -> int:
        """The position to which the channel's floor is still to be raised; 0 if to none."""
        return max((seq for seq, names in self.waiting.items() if channel in names), default=0)

    def forget(self, channel: str) -> None:
        """Leave the channel out. Without this, one that is not received any more would count as complete."""
        for names in self.waiting.values():
            names.discard(channel)

    def clear(self) -> None:
        """Leave all channels out."""
        for names in self.waiting.values():
            names.clear()
        self.waiting.clear()
