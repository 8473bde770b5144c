"""Names that stand for many channels, and which of them a channel's name matches.

Redis writes them as globs, AMQP's topic exchanges as words with ``*`` and ``#``. Both are matched here by the
rules of those who match them there, in a time that grows with the length of name and pattern and not with a
power of it, since strangers choose both. Plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_REMEMBERED = 10_000  # names whose answer is kept

Matcher = Callable[[bytes], object]  # whether a name matches, by its truth


def compile_glob(pattern: bytes) -> Matcher:
    """A glob as Redis reads it (``stringmatchlen`` of its util.c), on bytes.

    ``*`` any bytes, ``?`` one byte, ``[a-c]`` one of these, ``[^a]`` none of these, ``\\`` takes what follows
    as it is. What ends in the middle of a bracket ends there.
    """
    parts: list[bytes] = [b""]  # what lies between the stars
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            parts.append(b"")
        elif byte == b"?":
            parts[-1] += b"."
        elif byte == b"[":
            piece, at = _read_class(pattern, at)
            parts[-1] += piece
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            parts[-1] += re.escape(byte)
    return _in_sequence(parts, b".*").match


def _read_class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The regular expression of a bracket whose content begins at ``at``, and where what follows begins."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at + 1
    return b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members)), at + 1


def escape_glob(name: bytes) -> bytes:
    """The glob that matches this name alone."""
    return re.sub(rb"([*?\[\]\\^-])", rb"\\\1", name)


def compile_topic(pattern: bytes) -> Matcher:
    """A binding key of a topic exchange: words with dots between, ``*`` one, ``#`` any number of them."""
    parts: list[bytes] = [b""]  # what lies between the #
    for word in pattern.split(b".") if pattern else ():
        if word == b"#":
            parts.append(b"")
        else:
            parts[-1] += b"\\." + (b"[^.]*" if word == b"*" else re.escape(word)) + b"(?![^.])"
    form = _in_sequence(parts, b"(?:\\.[^.]*)*")
    return lambda name: form.match(b"." + name if name else b"")  # a dot before each word


def _in_sequence(parts: list[bytes], anything: bytes) -> re.Pattern[bytes]:
    """What matches these parts with anything between them.

    A part in the middle is taken where it is found first, once and for all, since what is between can make up
    for any length; without that, time would grow with a power of the length.
    """
    first, *others = parts
    if not others:
        return re.compile(b"(?s:%s)\\Z" % first)
    middle = b"".join(b"(?>%s?%s)" % (anything, part) for part in others[:-1] if part)
    return re.compile(b"(?s:%s%s%s%s)\\Z" % (first, middle, anything, others[-1]))


class Patterns:
    """A set of patterns, asked which of them a name matches.

    compile: one of the two functions above. The answer for a name is remembered until the set changes.
    """

    def __init__(self, compile: Callable[[bytes], Matcher]) -> None:
        self._compile = compile
        self._patterns: dict[bytes, Matcher] = {}
        self._answers: dict[bytes, tuple[bytes, ...]] = {}

    def __contains__(self, pattern: bytes) -> bool:
        return pattern in self._patterns

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._patterns)

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, pattern: bytes) -> None:
        """From now on it counts."""
        if pattern not in self._patterns:
            self._patterns[pattern] = self._compile(pattern)
            self._answers.clear()

    def discard(self, pattern: bytes) -> None:
        """It counts no more."""
        if self._patterns.pop(pattern, None) is not None:
            self._answers.clear()

    def matching(self, name: bytes) -> tuple[bytes, ...]:
        """The patterns that the name matches, in the order in which they were added."""
        if not self._patterns:
            return ()
        answer = self._answers.get(name)
        if answer is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            answer = tuple(pattern for pattern, matches in self._patterns.items() if matches(name))
            self._answers[name] = answer
        return answer
