"""The patterns to which clients are subscribed, and the search for those that match a channel.

For brokers that see every event and match patterns in this process. A pattern that is only a
prefix, such as ``news.*``, is found by a look-up; all others together read a name once. The answer for a
channel is remembered until the set changes. Names are text here; they are compared as bytes, as in Redis.
Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cyclone_sse.delivery.automaton import Automaton
from cyclone_sse.patterns import NAME_MAX, compile_glob
from cyclone_sse.prefix_table import PrefixTable

_REMEMBERED = 100_000  # channels whose answer is kept, about 10 MB: as many as the history knows floors of

_BITS_PER_UNIT = 200_000  # bits of patterns, for each byte of a name, that are compared in about 10 us
_BITS_OF_BYTE = 2500  # the fixed cost of a byte, in bits


class PatternIndex:
    """A set of globs. is_blocked: called for each match, returns whether to skip it."""

    def __init__(self, is_blocked: Callable[[str], bool] | None = None) -> None:
        self._is_blocked = is_blocked
        self._prefixes: dict[str, bytes | None] = {}  # of each pattern; None: it has more than a prefix
        self._by_prefix: PrefixTable[str, None] = PrefixTable()
        self._others: Automaton[str] = Automaton()
        self._answers: dict[str, tuple[str, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._prefixes

    def __len__(self) -> int:
        return len(self._prefixes)

    @property
    def cost(self) -> int:
        """The most that comparing one channel costs; 1 is about 10 us."""
        return self._cost(NAME_MAX)

    def cost_of(self, channel: str) -> int:
        """The cost of comparing this channel."""
        return self._cost(len(channel))

    def _cost(self, length: int) -> int:
        bits = self._others.bits
        return 1 + length * (bits + _BITS_OF_BYTE) // _BITS_PER_UNIT if bits else 1

    def add(self, name: str) -> None:
        """Add a pattern, unless it is in the set."""
        if name in self._prefixes:
            return
        compiled = compile_glob(_bytes(name))
        self._answers.clear()
        if not compiled.is_prefix:
            self._prefixes[name] = None
            self._others.add(name, compiled.places)
            return
        self._prefixes[name] = compiled.prefix
        self._by_prefix.add(compiled.prefix, name, None)

    def discard(self, name: str) -> None:
        """Remove a pattern, if it is in the set."""
        if name not in self._prefixes:
            return
        self._answers.clear()
        prefix = self._prefixes.pop(name)
        if prefix is None:
            self._others.discard(name)
        else:
            self._by_prefix.remove(prefix, name)

    def matching(self, channel: str) -> tuple[str, ...]:
        """The patterns that match the channel."""
        if not self._prefixes:
            return ()
        found = self._answers.get(channel)
        if found is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            found = self._answers[channel] = tuple(self._find(_bytes(channel)))
        if self._is_blocked is None or not found:
            return found
        return tuple([name for name in found if not self._is_blocked(name)])

    def _find(self, channel: bytes) -> Iterator[str]:
        for name, _ in self._by_prefix.matching(channel):
            yield name
        if len(self._others):
            yield from self._others.matching(channel)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
