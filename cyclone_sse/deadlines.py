"""Deadlines of many items: pings, ages, stalled clients, idle connections, subscriptions without clients.

With ten thousand clients, a walk over all deadlines every second would cost more than serving the clients. So
deadlines are kept in buckets of the same width: setting and clearing a deadline costs O(1), and finding those
that are due visits no others. Plain Python: the time, in seconds of a monotonic clock, is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


def grain_for(seconds: float) -> float:
    """The seconds by which a deadline so far ahead may be late: a tenth of it, and a second at most.

    Also the time between two looks at such deadlines. A second where there are none, for 0 seconds.
    """
    return min(1.0, seconds / 10) or 1.0


class Deadlines(Generic[T]):
    """The deadlines of items; an item has one at most.

    grain: width of a bucket in seconds. No item is returned early, and none late by more than this. first:
    the time at which the first bucket is due, which may be empty; infinite if there is none.
    """

    __slots__ = ("_bucket_of", "_buckets", "_grain", "_order", "first")

    def __init__(self, grain: float = 1.0) -> None:
        self._grain = grain
        self._buckets: dict[int, dict[T, None]] = {}
        self._bucket_of: dict[T, int] = {}
        self._order: list[int] = []  # heap of the buckets' numbers
        self.first = math.inf

    def __len__(self) -> int:
        return len(self._bucket_of)

    def __contains__(self, item: T) -> bool:
        return item in self._bucket_of

    def __iter__(self) -> Iterator[T]:
        return iter(self._bucket_of)

    def set(self, item: T, when: float) -> None:
        """Set the item's deadline, in place of the one it has."""
        number = math.ceil(when / self._grain)
        before = self._bucket_of.get(item)
        if before == number:
            return
        if before is not None:
            del self._buckets[before][item]
        self._bucket_of[item] = number
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heappush(self._order, number)
            self.first = self._order[0] * self._grain
        bucket[item] = None

    def clear(self, item: T) -> None:
        """Remove the item's deadline, if it has one."""
        number = self._bucket_of.pop(item, None)
        if number is not None:
            del self._buckets[number][item]

    def pop_due(self, now: float, most: int | None = None) -> list[T]:
        """Remove and return the items that are due, the earliest bucket first.

        most: the maximum number; if it is reached, there may be more, for another turn of the reactor.
        """
        found: list[T] = []
        while self._order and self.first <= now:
            bucket = self._buckets[self._order[0]]
            while bucket:
                if len(found) == most:
                    return found
                item, _ = bucket.popitem()
                del self._bucket_of[item]
                found.append(item)
            del self._buckets[heappop(self._order)]
            self.first = self._order[0] * self._grain if self._order else math.inf
        return found
