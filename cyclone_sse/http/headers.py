"""Request headers as cyclone's handlers look for them, made without its costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from cyclone.httputil import HTTPHeaders


@lru_cache(maxsize=1024)
def header_name(name: bytes) -> str:
    """The canonical form, ``Last-Event-Id``."""
    return "-".join(part.capitalize() for part in name.decode("ascii").split("-"))


@lru_cache(maxsize=1024)
def _canonical(name: str) -> str:
    return "-".join([part.capitalize() for part in name.split("-")])


class Headers(HTTPHeaders):  # type: ignore[misc]
    """cyclone's class, but filled without its table of all names ever seen, which strangers can make grow
    without bound. repeated: the names that came more than once."""

    repeated: frozenset[str] = frozenset()

    def __init__(self) -> None:
        dict.__init__(self)

    @classmethod
    def from_raw(cls, pairs: Sequence[tuple[bytes, bytes]]) -> Headers:
        """Take headers as they came. Repeated ones are joined with commas (RFC 9110 5.3)."""
        headers = cls()
        for name, value in pairs:
            key, text = header_name(name), value.decode("latin-1").strip(" \t")
            if dict.__contains__(headers, key):
                headers.repeated |= {key}
                text = f"{dict.__getitem__(headers, key)},{text}"
            dict.__setitem__(headers, key, text)
        if headers.repeated:
            lists: dict[str, list[str]] = {}
            for name, value in pairs:
                lists.setdefault(header_name(name), []).append(value.decode("latin-1").strip(" \t"))
            headers._as_list = lists
        return headers

    @cached_property
    def _as_list(self) -> dict[str, list[str]]:
        """cyclone's lists of values; made when asked for, unless a header is repeated."""
        items: Any = dict.items(self)
        return {name: [value] for name, value in items}

    exact: Any = dict.get  # for a name in its canonical form, at a third of the cost

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, whatever the case of its name."""
        return dict.get(self, _canonical(name), default)


NO_HEADERS = Headers()
