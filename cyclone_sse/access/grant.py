"""What somebody may do: which channels to hear, which to publish to, and until when.

A token, an answer of the application, ``--public`` and the publishing key all become a Grant, so that the
rest of the server asks one question. Plain Python. Costs a look-up in a set for each channel that is
granted by its name, and a comparison with each glob for the others; no comparison goes back over a name
twice, so that nobody can make one slow by the name that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

EVERYTHING = "*"


class Names:
    """Names and globs of channels; in a glob ``*`` stands for any run of characters, also for none."""

    __slots__ = ("_exact", "_globs")

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        self._globs = tuple(tuple(name.split("*")) for name in self._exact if "*" in name)

    def hold(self, name: str, is_pattern: bool) -> bool:
        """Whether this channel is among them.

        A pattern is there only under its own name, or under ``*``: ``news.*`` does not hold the pattern
        ``n*``, which hears more, and whether one pattern lies within another shall be nobody's guess.
        """
        if name in self._exact or EVERYTHING in self._exact:
            return True
        return not is_pattern and "*" not in name and any(_match(glob, name) for glob in self._globs)

    def __bool__(self) -> bool:
        return bool(self._exact)


def _match(glob: tuple[str, ...], name: str) -> bool:
    """Whether the name has the pieces of the glob in their order, the first and the last at its ends."""
    first, *middle, last = glob
    start, end = len(first), len(name) - len(last)
    if start > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for piece in middle:
        found = name.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do; the fields are named as the claims of a token.

    user: who it is, for ``POST /disconnect``; None if nobody said. subscribe, publish: names and globs of
    channels. expires: seconds since the epoch, None for never.
    """

    user: str | None = None
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    expires: float | None = None
    _heard: Names = field(init=False, repr=False, compare=False)
    _said: Names = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_heard", Names(self.subscribe))
        object.__setattr__(self, "_said", Names(self.publish))

    def may_subscribe(self, channel: str, is_pattern: bool = False) -> bool:
        """Whether this channel may be heard; a name with ``*`` in it is a pattern in any case."""
        return self._heard.hold(channel, is_pattern)

    def may_publish(self, channel: str) -> bool:
        """Whether something may be published to this channel."""
        return self._said.hold(channel, False)

    @property
    def may_publish_everywhere(self) -> bool:
        """Whether this is an operator's grant, as the publishing key is."""
        return EVERYTHING in self.publish


OPERATOR = Grant(publish=(EVERYTHING,))  # whoever has the publishing key, or everybody where there is none
