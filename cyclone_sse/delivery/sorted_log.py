"""Items in the order of keys that only grow: append, remove any, and read on from a key.

Reading resumes from a key, not from an index, so a reader may pause between two slices while items are
appended and removed. An append, a removal and the start of a reading cost O(1), O(1) and O(log n); what is
removed is freed at once, its key later, when most keys are dead. Plain Python.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_MIN_DEAD = 64  # keys of removed items that are always tolerated: a new list costs more


class SortedLog(Generic[T]):
    """A dictionary from growing integers to items, which can be read from any key on."""

    __slots__ = ("_items", "_keys")

    def __init__(self) -> None:
        self._items: dict[int, T] = {}
        self._keys: list[int] = []  # with those of removed items, until the list is made again

    def __len__(self) -> int:
        return len(self._items)

    def append(self, key: int, item: T) -> None:
        """Add an item; key: greater than all before."""
        assert not self._keys or key > self._keys[-1]
        self._keys.append(key)
        self._items[key] = item

    def get(self, key: int) -> T | None:
        """The item with this key, if there is one."""
        return self._items.get(key)

    def pop(self, key: int) -> T | None:
        """Remove and return the item with this key, if there is one."""
        item = self._items.pop(key, None)
        if len(self._keys) > 2 * len(self._items) + _MIN_DEAD:
            last = self._keys[-1]
            self._keys = list(self._items)
            if not self._keys or self._keys[-1] != last:
                self._keys.append(last)  # so that `append` can still tell which keys are greater
        return item

    def after(self, key: int) -> Iterator[tuple[int, T]]:
        """The items after this key with their keys. Nothing must be changed while they are read."""
        keys, items = self._keys, self._items
        for index in range(bisect_right(keys, key), len(keys)):
            item = items.get(keys[index])
            if item is not None:
                yield keys[index], item
