"""Patterns, which match many channels.

In Redis patterns are globs; in AMQP's topic exchanges they are words with ``*`` and ``#``. Both are matched
here by the rules of Redis and AMQP. Clients choose patterns, so the cost must be limited: compiling a pattern
is linear in its length, and matching is linear in the length of the name. A pattern is a sequence of tokens,
and the bits of one integer are the places in the sequence that a name can have reached. Plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

NAME_MAX = 255  # bytes of a channel's name or pattern; AMQP 0-9-1, 4.2.5.3 allows no more
_BYTES = frozenset(range(256))


class Token(NamedTuple):
    """One symbol of a name. excluded: any symbol but the members, instead of one of the members."""

    excluded: bool
    members: frozenset[Hashable]


ANY_ONE = Token(True, frozenset())
ANY_RUN = None  # any number of symbols, also none

PatternTokens: TypeAlias = Sequence[Token | None]


class Places(NamedTuple):
    """The places in a pattern that a name can have reached, as the bits of integers; all begin at bit 0.

    loops: places where any symbol is skipped (``*``). default: places from which most symbols lead to the
    next one. toggles: for a symbol, the places where it differs from most in that. accept: the last place,
    where a name has matched.
    """

    loops: int
    default: int
    toggles: Mapping[Hashable, int]
    accept: int


class Pattern:
    """A compiled pattern.

    tokens: the pattern. split: cuts a name into symbols. prefix: the start of every name that matches.
    needed: bytes that every such name contains. is_prefix: whether every name with this prefix matches.
    """

    __slots__ = ("_accept", "_default", "_loops", "_toggles", "is_prefix", "needed", "prefix", "split")

    def __init__(
        self,
        tokens: PatternTokens,
        split: Callable[[bytes], Iterable[Hashable]],
        prefix: bytes,
        needed: bytes = b"",
        is_prefix: bool = False,
    ) -> None:
        self.split = split
        self.prefix = prefix
        self.needed = needed
        self.is_prefix = is_prefix
        self._loops = 0  # these three are explained in `Places`
        self._default = 0
        self._toggles: dict[Hashable, int] = {}
        place = 1
        for token in tokens:
            if token is ANY_RUN:
                self._loops |= place
                continue
            if token.excluded:
                self._default |= place
            for symbol in token.members:
                self._toggles[symbol] = self._toggles.get(symbol, 0) | place
            place <<= 1
        self._accept = place

    @property
    def places(self) -> Places:
        """The places in the pattern."""
        return Places(self._loops, self._default, self._toggles, self._accept)

    def matches(self, name: bytes) -> bool:
        """Whether the pattern matches the name."""
        if not name.startswith(self.prefix) or self.needed not in name:
            return False
        if self.is_prefix:
            return True
        places = 1
        for symbol in self.split(name):
            places = (places & (self._default ^ self._toggles.get(symbol, 0))) << 1 | places & self._loops
            if not places:
                return False
        return bool(places & self._accept)


def compile_glob(pattern: bytes) -> Pattern:
    """A glob as Redis reads it (``stringmatchlen`` of its util.c), on bytes.

    ``*`` any bytes, ``?`` one byte, ``[a-c]`` one of these, ``[^a]`` none of these, ``\\`` takes what follows
    as it is. A bracket that is not closed ends with the pattern.
    """
    tokens = list(_read_glob(pattern))
    literals = [_literal(token) for token in tokens]
    runs = "".join("\0" if byte is None else "x" for byte in literals)
    prefix = bytes(byte for byte in literals[: len(runs.partition("\0")[0])] if byte is not None)
    longest = max(re.finditer("x+", runs), key=lambda run: run.end() - run.start(), default=None)
    needed = b""
    if longest is not None:
        needed = bytes(byte for byte in literals[longest.start() : longest.end()] if byte is not None)
    is_prefix = len(tokens) == len(prefix) + 1 and tokens[-1] is ANY_RUN
    return Pattern(tokens, iter, prefix, needed, is_prefix)


def canonical_glob(pattern: str) -> str:
    """The pattern with one ``*`` in place of several, which matches the same names."""
    if "**" not in pattern:
        return pattern
    # Not behind a backslash nor in a bracket, where a star stands for itself.
    pieces = re.findall(r"\\.?|\[(?:\\.?|[^\]\\])*\]?|\*+|[^\\\[*]+", pattern, re.DOTALL)
    return "".join("*" if piece.startswith("*") else piece for piece in pieces)


def is_glob(name: str) -> bool:
    """Whether the name of a channel is a glob: it contains a star, as documented since the first version."""
    return "*" in name


def escape_glob(name: bytes) -> bytes:
    """The glob that matches only this name."""
    return re.sub(rb"([*?\[\]\\^-])", rb"\\\1", name)


def compile_topic(pattern: bytes) -> Pattern:
    """A binding key of a topic exchange: words with dots between, ``*`` one, ``#`` any number of them."""
    words = _words(pattern)
    wild = next((n for n, word in enumerate(words) if word in (b"*", b"#")), len(words))
    tokens = [
        ANY_RUN if word == b"#" else ANY_ONE if word == b"*" else Token(False, frozenset((word,)))
        for word in words
    ]
    return Pattern(tokens, _words, b".".join(words[:wild]))


def canonical_topic(pattern: str) -> str:
    """The binding key with the ``*`` of a run of wildcards first, then one ``#`` in place of several.

    It matches the same names. Without this, RabbitMQ would take minutes for a long name and ``#.*.#.*.#``.
    """
    words: list[str] = []
    is_open = False  # the run of wildcards before this word has a `#`
    for word in pattern.split("."):
        if word == "#":
            is_open = True
            continue
        if word != "*" and is_open:
            words.append("#")
            is_open = False
        words.append(word)
    return ".".join([*words, "#"] if is_open else words)


def check_names(names: Collection[str]) -> None:
    """Raise ValueError if one of these names of channels or patterns is longer than NAME_MAX bytes."""
    # Without this, a body of a hundred thousand names would take a step for each: of UTF-8 no character
    # has more than four bytes.
    if not names or max(map(len, names)) <= NAME_MAX // 4:
        return
    for name in names:
        if len(name) > NAME_MAX or len(name.encode("utf-8", "surrogatepass")) > NAME_MAX:
            raise ValueError(f"a channel's name is longer than {NAME_MAX} bytes: {name[:20]!r}...")


def _read_glob(pattern: bytes) -> Iterator[Token | None]:
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == ord("*"):
            yield ANY_RUN
        elif byte == ord("?"):
            yield ANY_ONE
        elif byte == ord("["):
            token, at = _read_class(pattern, at)
            yield token
        else:
            if byte == ord("\\") and at < len(pattern):
                byte = pattern[at]
                at += 1
            yield Token(False, frozenset((byte,)))


def _read_class(pattern: bytes, at: int) -> tuple[Token, int]:
    """The token of a bracket whose content begins at ``at``, and the position after the bracket."""
    excluded = pattern[at : at + 1] == b"^"
    at += excluded
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
    if len(members) > len(_BYTES) // 2:  # the shorter list is kept
        return Token(not excluded, _BYTES - members), at + 1
    return Token(excluded, frozenset(members)), at + 1


def _literal(token: Token | None) -> int | None:
    """The one byte that the token stands for, if it is one."""
    if token is None or token.excluded or len(token.members) != 1:
        return None
    (byte,) = token.members
    return byte if isinstance(byte, int) else None


def _words(name: bytes) -> list[bytes]:
    return name.split(b".") if name else []
