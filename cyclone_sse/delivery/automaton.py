"""One automaton for many globs: a name is read once, however many they are.

Clients choose patterns, and each name that is published is compared with all of them. The places in a glob
that a name can have reached are the bits of an integer; here the bits of all globs lie in one integer, side
by side, and each byte of a name moves all of them. That is some operations on integers of this length: a
microsecond for a thousand short globs. Plain Python.
"""

from __future__ import annotations

from collections.abc import Hashable

from cyclone_sse.patterns import Places

_LEAST = 16  # bits for a short glob; sizes are powers of two, so that another glob can reuse the bits


class Automaton:
    """A set of globs. bits: the length of its integers."""

    def __init__(self) -> None:
        self.bits = 0
        self._starts = self._accepts = self._default = self._loops = 0
        self._toggles: dict[Hashable, int] = {}  # by the byte of a name
        self._globs: dict[str, tuple[int, Places]] = {}  # the first bit of each glob, and its places
        self._by_accept: dict[int, str] = {}  # by the bit at which a glob has matched
        self._free: dict[int, list[int]] = {}  # the first bits of removed globs, by size

    def __len__(self) -> int:
        return len(self._globs)

    def add(self, glob: str, places: Places) -> None:
        """Add a glob that is not in the set."""
        size = _size(places)
        free = self._free.get(size)
        if free:
            first = free.pop()
        else:
            first, self.bits = self.bits, self.bits + size
        self._globs[glob] = first, places
        self._by_accept[first + places.accept.bit_length() - 1] = glob
        self._switch(first, places)

    def discard(self, glob: str) -> None:
        """Remove a glob, if it is in the set."""
        first, places = self._globs.pop(glob, (0, None))
        if places is not None:
            del self._by_accept[first + places.accept.bit_length() - 1]
            self._free.setdefault(_size(places), []).append(first)
            self._switch(first, places)

    def _switch(self, first: int, places: Places) -> None:
        """Add the bits of a glob, or remove them if they are there."""
        self._starts ^= 1 << first
        self._accepts ^= places.accept << first
        self._default ^= places.default << first
        self._loops ^= places.loops << first
        for byte, toggle in places.toggles.items():
            left = self._toggles.get(byte, 0) ^ toggle << first
            if left:
                self._toggles[byte] = left
            else:
                del self._toggles[byte]

    def matching(self, name: bytes) -> list[str]:
        """The globs that match this name."""
        places, default, loops, toggles = self._starts, self._default, self._loops, self._toggles
        for byte in name:
            if not places:
                return []
            toggle = toggles.get(byte)
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
