"""Globs of channel names: ``*`` matches any number of characters.

For the rules of options and tokens. Patterns to which clients subscribe have more special characters: see
``patterns``. Plain Python. The time of a comparison is linear in the name, for every glob.
"""

from __future__ import annotations


class Glob:
    """One glob, parsed once and compared often."""

    __slots__ = ("_pieces", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = text.split("*")

    def matches(self, name: str) -> bool:
        """Whether the name has the parts of the glob in order, the first and the last at its ends."""
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
