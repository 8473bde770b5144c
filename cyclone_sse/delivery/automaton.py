"""One automaton for many patterns: a name is read once, however many they are.

Clients choose patterns, and each name that is published is compared with all of them. The places in a
pattern that a name can have reached are the bits of an integer; here the bits of all patterns lie in one
integer, side by side, and each symbol of a name (a byte, or a word) moves all of them. That is some
operations on integers of this length: a microsecond for a thousand short globs. Plain Python.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from cyclone_sse.patterns import Places

Key = TypeVar("Key", str, bytes)

_LEAST = 16  # bits for a short pattern; sizes are powers of two, so that another can reuse the bits


class Automaton(Generic[Key]):
    """A set of patterns. bits: the length of its integers."""

    def __init__(self) -> None:
        self.bits = 0
        self._starts = self._accepts = self._default = self._loops = 0
        self._toggles: dict[Hashable, int] = {}  # by the symbol of a name
        self._patterns: dict[Key, tuple[int, Places]] = {}  # the first bit of each pattern, and its places
        self._by_accept: dict[int, Key] = {}  # by the bit at which a pattern has matched
        self._free: dict[int, list[int]] = {}  # the first bits of removed patterns, by size

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, pattern: Key, places: Places) -> None:
        """Add a pattern that is not in the set."""
        size = _size(places)
        free = self._free.get(size)
        if free:
            first = free.pop()
        else:
            first, self.bits = self.bits, self.bits + size
        self._patterns[pattern] = first, places
        self._by_accept[first + places.accept.bit_length() - 1] = pattern
        self._switch(first, places)

    def discard(self, pattern: Key) -> None:
        """Remove a pattern, if it is in the set."""
        first, places = self._patterns.pop(pattern, (0, None))
        if places is not None:
            del self._by_accept[first + places.accept.bit_length() - 1]
            self._free.setdefault(_size(places), []).append(first)
            self._switch(first, places)

    def _switch(self, first: int, places: Places) -> None:
        """Add the bits of a pattern, or remove them if they are there."""
        self._starts ^= 1 << first
        self._accepts ^= places.accept << first
        self._default ^= places.default << first
        self._loops ^= places.loops << first
        for symbol, toggle in places.toggles.items():
            left = self._toggles.get(symbol, 0) ^ toggle << first
            if left:
                self._toggles[symbol] = left
            else:
                del self._toggles[symbol]

    def matching(self, name: Iterable[Hashable]) -> list[Key]:
        """The patterns that match this name, which is given by its symbols."""
        places, default, loops, toggles = self._starts, self._default, self._loops, self._toggles
        for symbol in name:
            if not places:
                return []
            toggle = toggles.get(symbol)
            steps = default if toggle is None else default ^ toggle
            places = (places & steps) << 1 | places & loops
        found = []
        places &= self._accepts
        while places:
            accept = places & -places
            found.append(self._by_accept[accept.bit_length() - 1])
            places ^= accept
        return found


def _size(places: Places) -> int:
    return max(_LEAST, 1 << (places.accept.bit_length() - 1).bit_length())
