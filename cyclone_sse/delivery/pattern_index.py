"""The patterns to which clients are subscribed, asked which of them match a channel.

For brokers that see every event and match patterns in this process. Names are text here; the matcher works on
bytes, as Redis does. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable

from cyclone_sse.patterns import Patterns, compile_glob


class PatternIndex:
    """A set of globs. is_blocked: asked for each match whether it is to be left out."""

    def __init__(self, is_blocked: Callable[[str], bool] | None = None) -> None:
        self._is_blocked = is_blocked
        self._patterns = Patterns(compile_glob)

    @staticmethod
    def is_pattern(name: str) -> bool:
        """Whether the name stands for many channels."""
        return "*" in name

    def __contains__(self, name: str) -> bool:
        return "*" in name and name.encode("utf-8", "surrogatepass") in self._patterns

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, name: str) -> None:
        """Add a pattern; it may be in the set."""
        self._patterns.add(name.encode("utf-8", "surrogatepass"))

    def discard(self, name: str) -> None:
        """Remove a pattern; it need not be in the set."""
        self._patterns.discard(name.encode("utf-8", "surrogatepass"))

    def matching(self, channel: str) -> tuple[str, ...]:
        """The patterns that match the channel."""
        if not len(self._patterns):
            return ()
        found = self._patterns.matching(channel.encode("utf-8", "surrogatepass"))
        names = tuple([pattern.decode("utf-8", "surrogatepass") for pattern in found])
        if self._is_blocked is None:
            return names
        return tuple([name for name in names if not self._is_blocked(name)])
