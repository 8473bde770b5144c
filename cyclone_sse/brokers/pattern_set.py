"""The patterns that are subscribed upstream, and the search for those that match a name.

Clients choose the patterns, and many messages come in one turn, often each with another name. So patterns are
found by their prefixes, and those with the same prefix are compared with a name together: without this, a
thousand patterns would stop the server for seconds. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from cyclone_sse.delivery.automaton import Automaton
from cyclone_sse.patterns import Pattern
from cyclone_sse.prefix_table import PrefixTable

_REMEMBERED = 10_000  # names whose answer is kept
# Patterns that are compared together. An automaton has an integer for each word of its patterns: with very
# many patterns these would take much memory.
_TOGETHER = 64


class PatternSet:
    """A set of patterns. compile: ``compile_glob`` or ``compile_topic``.

    Any number of patterns such as ``news.*`` costs one look-up. The answer for a name is remembered until the
    set changes.
    """

    def __init__(self, compile: Callable[[bytes], Pattern]) -> None:
        self._compile = compile
        self._split = compile(b"").split
        self._patterns: dict[bytes, tuple[Pattern, Automaton[bytes] | None]] = {}
        # By prefix: patterns that are only this prefix, with None, and automata of the others.
        self._by_prefix: PrefixTable[Hashable, Automaton[bytes] | None] = PrefixTable()
        self._with_room: dict[bytes, dict[Automaton[bytes], None]] = {}  # automata, by prefix
        self._answers: dict[bytes, tuple[bytes, ...]] = {}

    def __contains__(self, pattern: bytes) -> bool:
        return pattern in self._patterns

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._patterns)

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, pattern: bytes) -> None:
        """Add the pattern, unless it is in the set."""
        if pattern in self._patterns:
            return
        compiled = self._compile(pattern)
        automaton = None
        if compiled.is_prefix:
            self._by_prefix.add(compiled.prefix, pattern, None)
        else:
            automaton = self._add_to_automaton(pattern, compiled)
        self._patterns[pattern] = compiled, automaton
        self._answers.clear()

    def discard(self, pattern: bytes) -> None:
        """Remove the pattern, if it is in the set."""
        compiled, automaton = self._patterns.pop(pattern, (None, None))
        if compiled is None:
            return
        self._answers.clear()
        if automaton is None:
            self._by_prefix.remove(compiled.prefix, pattern)
            return
        automaton.discard(pattern)
        with_room = self._with_room.setdefault(compiled.prefix, {})
        with_room[automaton] = None
        if not len(automaton):
            del with_room[automaton]
            self._by_prefix.remove(compiled.prefix, automaton)
        if not with_room:
            del self._with_room[compiled.prefix]

    def matching(self, name: bytes) -> tuple[bytes, ...]:
        """The patterns that the name matches."""
        if not self._patterns:
            return ()
        answer = self._answers.get(name)
        if answer is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            answer = self._answers[name] = tuple(self._find(name))
        return answer

    def _find(self, name: bytes) -> Iterator[bytes]:
        symbols = None
        for pattern, automaton in self._by_prefix.matching(name):
            if automaton is None:
                assert isinstance(pattern, bytes)
                yield pattern
            else:
                symbols = symbols or list(self._split(name))
                yield from automaton.matching(symbols)

    def _add_to_automaton(self, pattern: bytes, compiled: Pattern) -> Automaton[bytes]:
        with_room = self._with_room.setdefault(compiled.prefix, {})
        automaton = next(iter(with_room), None)
        if automaton is None:
            automaton = Automaton()
            with_room[automaton] = None
            self._by_prefix.add(compiled.prefix, automaton, automaton)
        automaton.add(pattern, compiled.places)
        if len(automaton) == _TOGETHER:
            del with_room[automaton]
        if not with_room:
            del self._with_room[compiled.prefix]
        return automaton
