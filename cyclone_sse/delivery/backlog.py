"""Items that one call leaves for later calls: each call pops a limited number of them.

Without this, very many events that are dropped together, or very many channels of one event that expires,
would be one turn of the reactor. Adding costs O(1). Plain Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """The items, in the order in which they were added."""

    def __init__(self) -> None:
        self._parts: deque[Iterator[T]] = deque()

    def __bool__(self) -> bool:
        """Whether there may be items: the last part may turn out to have none."""
        return bool(self._parts)

    def add(self, items: Iterable[T]) -> None:
        """Add these items, which are read only when they are popped."""
        self._parts.append(iter(items))

    def pop_some(self, most: int) -> list[T]:
        """Remove and return the first items, up to this number."""
        popped: list[T] = []
        while self._parts and len(popped) < most:
            popped += islice(self._parts[0], most - len(popped))
            if len(popped) < most:
                self._parts.popleft()
        return popped
