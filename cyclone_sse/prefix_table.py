"""A table of entries with a prefix each, and the search for those whose prefix a name begins with.

The search is one look-up for each length that a prefix has, however many entries there are. Plain Python.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PrefixTable(Generic[Key, Value]):
    """Entries, each with its prefix, a key and a value."""

    def __init__(self) -> None:
        self._entries: dict[bytes, dict[Key, Value]] = {}  # by prefix
        self._lengths: dict[int, int] = {}  # of prefixes, and how many prefixes have this length

    def add(self, prefix: bytes, key: Key, value: Value) -> None:
        """Add an entry that is not in the table."""
        entries = self._entries.get(prefix)
        if entries is None:
            entries = self._entries[prefix] = {}
            self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
        entries[key] = value

    def remove(self, prefix: bytes, key: Key) -> None:
        """Remove an entry. Raises KeyError if it is not in the table."""
        entries = self._entries[prefix]
        del entries[key]
        if not entries:
            del self._entries[prefix]
            self._lengths[len(prefix)] -= 1
            if not self._lengths[len(prefix)]:
                del self._lengths[len(prefix)]

    def matching(self, name: bytes) -> Iterator[tuple[Key, Value]]:
        """The keys and values of the entries whose prefix the name begins with."""
        for length in self._lengths:
            if length <= len(name):
                yield from self._entries.get(name[:length], {}).items()
