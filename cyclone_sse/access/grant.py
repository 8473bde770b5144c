"""The rights of a client or publisher: channels to subscribe to, channels to publish to, and an expiry.

A token, an answer of the application, ``--public`` and the publishing key all become a Grant, so that the
rest of the server has one interface to them. Plain Python. A check costs a look-up in a set for a channel
that is granted by its name, and a comparison with each glob for other channels. The time of a comparison is
linear in the name: without this, a client could choose a name that makes it slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cyclone_sse.globs import Glob
from cyclone_sse.patterns import is_glob
from cyclone_sse.strict_json import compact_json

EVERYTHING = "*"
MAX_USER = 1024  # bytes of a user's name
MAX_INFO = 1024  # bytes of a member's info, as compact JSON
MAX_SECONDS = 315_576_000.0  # ten years: without a limit, an expiry of 1e308 would overflow


class Names:
    """Names and globs of channels; in a glob ``*`` matches any number of characters.

    exact: there are no globs among them, only names and patterns as they are.
    """

    __slots__ = ("_everything", "_exact", "_globs")

    def __init__(self, names: Iterable[str], exact: bool = False) -> None:
        self._exact = frozenset(names)
        self._everything = EVERYTHING in self._exact and not exact
        globs = () if exact else filter(is_glob, self._exact)
        self._globs = tuple(map(Glob, globs))

    def allows(self, name: str, is_pattern: bool) -> bool:
        """Whether these names include the channel.

        A pattern is included only under its own name, or under ``*``: ``news.*`` does not allow the pattern
        ``n*``, which matches more. The server compares names, and never computes whether one pattern includes
        another.
        """
        if self._everything or name in self._exact:
            return True
        return not is_pattern and not is_glob(name) and any(glob.matches(name) for glob in self._globs)

    def __bool__(self) -> bool:
        return bool(self._exact)


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a client or publisher; the fields have the names of a token's claims.

    user: the user's name, for ``POST /disconnect`` and presence; None if unknown. subscribe, publish: names
    and globs of channels. expires: seconds since the epoch, None for never. info: what is shown with the
    user to other members of a channel, as compact JSON. exact: ``subscribe`` holds no globs.
    """

    user: str | None = None
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    expires: float | None = None
    info: str | None = None
    exact: bool = False
    _subscribable: Names = field(init=False, repr=False, compare=False)
    _publishable: Names = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_subscribable", Names(self.subscribe, self.exact))
        object.__setattr__(self, "_publishable", Names(self.publish))

    def may_subscribe(self, channel: str, is_pattern: bool = False) -> bool:
        """Whether this channel may be subscribed to; a name with ``*`` in it is a pattern in any case."""
        return self._subscribable.allows(channel, is_pattern)

    def may_publish(self, channel: str) -> bool:
        """Whether events may be published to this channel."""
        return self._publishable.allows(channel, False)

    @property
    def may_publish_everywhere(self) -> bool:
        """Whether this grant is for every channel, such as that of the publishing key."""
        return EVERYTHING in self.publish


PUBLISH_EVERYWHERE = Grant(publish=(EVERYTHING,))  # with the key, or for all clients where there is no key


def user_name(value: object, field: str) -> str | None:
    """The user's name from a claim or an answer: text, or a number as text; None if there is none.

    field: its name there. Raises ValueError.
    """
    if value is None:
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{field} is neither text nor a whole number")
    if _size(value, field) > MAX_USER:
        raise ValueError(f"{field} is longer than {MAX_USER} bytes")
    return value or None


def compact_info(value: object) -> str | None:
    """A member's info as compact JSON; None if there is none.

    Raises ValueError where it is too long, or has a number that JSON cannot express.
    """
    if value is None:
        return None
    try:
        text = compact_json(value)
    except ValueError:
        # Without this, no browser could read the list of members: Python's json makes NaN in tokens.
        raise ValueError("info contains NaN or Infinity, which JSON does not have") from None
    if _size(text, "info") > MAX_INFO:
        raise ValueError(f"info is longer than {MAX_INFO} bytes as JSON")
    return text


def _size(text: str, field: str) -> int:
    """The size of the text of this field in UTF-8. Raises ValueError if it cannot be encoded.

    Without this, half of a surrogate pair in one member's name would break the list of all members.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{field} contains half of a surrogate pair") from None
