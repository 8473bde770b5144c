"""Globs of channel names: ``*`` is any run of characters, also an empty one.

Plain Python. A comparison never goes back over a name, so its time is linear whatever the name and the glob.
"""

from __future__ import annotations


class Glob:
    """One glob, read once and compared often."""

    __slots__ = ("_pieces", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = text.split("*")

    def matches(self, name: str) -> bool:
        """Whether the name has the pieces of the glob in their order, the first and the last at its ends."""
        if len(self._pieces) == 1:
            return name == self.text
        first, *middle, last = self._pieces
        start, end = len(first), len(name) - len(last)
        if start > end or not (name.startswith(first) and name.endswith(last)):
            return False
        for piece in middle:
            found = name.find(piece, start, end)
            if found < 0:
                return False
            start = found + len(piece)
        return True
