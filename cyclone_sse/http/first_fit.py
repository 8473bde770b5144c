"""Names in the order in which they were added, each with a size; finds the first that is small enough.

A binary tree in one list: the children of node n are the nodes 2n and 2n + 1, the leaves are the names, and
each node has the smallest size below it. Each call costs O(log n), amortised. Plain Python; knows nothing of
what the names and sizes are.
"""

from __future__ import annotations

import math

NEVER = math.inf  # the size of a name that is not to be found: larger than any limit


class FirstFit:
    """The names, of which each is added when its size is set, and keeps its place when that changes."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}  # the number of the leaf of each name, in order
        self._names: list[str] = []  # by leaf, with those that were removed since the tree was made
        self._capacity = 1  # leaves
        self._least: list[float] = [NEVER, NEVER]

    def __len__(self) -> int:
        return len(self._places)

    def first(self, limit: int) -> str | None:
        """The first name whose size is at most this; None if there is none."""
        if self._least[1] > limit:
            return None
        node = 1
        while node < self._capacity:
            node *= 2
            node += self._least[node] > limit
        return self._names[node - self._capacity]

    def set(self, name: str, size: float) -> None:
        """Set the size of this name, which is added after all others if it is new."""
        if name not in self._places:
            if len(self._names) == self._capacity:
                self._rebuild()
            self._places[name] = len(self._names)
            self._names.append(name)
        self._set_leaf(self._places[name], size)

    def discard(self, name: str) -> None:
        """Remove this name, if it is there."""
        place = self._places.pop(name, None)
        if place is not None:
            self._set_leaf(place, NEVER)

    def _set_leaf(self, place: int, size: float) -> None:
        node = place + self._capacity
        self._least[node] = size
        while node > 1:
            node //= 2
            self._least[node] = min(self._least[2 * node], self._least[2 * node + 1])

    def _rebuild(self) -> None:
        """Make a tree of the names that are left, in their order, with leaves for as many others and more."""
        sizes = [self._least[place + self._capacity] for place in self._places.values()]
        self._names = list(self._places)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._capacity = 2 << len(sizes).bit_length()
        free = [NEVER] * (self._capacity - len(sizes))
        self._least = [NEVER] * self._capacity + sizes + free  # number 0 is not used
        for node in range(self._capacity - 1, 0, -1):
            self._least[node] = min(self._least[2 * node], self._least[2 * node + 1])
