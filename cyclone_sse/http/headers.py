"""Request headers with the interface of cyclone's class, without its cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from cyclone.httputil import HTTPHeaders

from cyclone_sse.errors import Refusal

MAX_HEAD = 16 * 1024  # bytes of request line and headers
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
FIELD = re.compile(rb"(%s):([\t -~\x80-\xff]*)\r\n" % TOKEN)  # RFC 9112 5
# Bytes that no request line, header or size of a chunk may contain. The text may be incomplete, so
# a CR at its end is allowed.
FORBIDDEN_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")

_SHORT_NAME = 40  # bytes; longer ones are not remembered
_MAX_KNOWN = 500  # names


def header_name(name: bytes) -> str:
    """The name in its canonical form, such as ``Last-Event-Id``."""
    known = _known_names.get(name)
    if known is None:
        known = "-".join([part.capitalize() for part in name.decode("ascii").split("-")])
        # Without a limit, clients could fill the memory with names.
        if len(name) <= _SHORT_NAME and len(_known_names) < _MAX_KNOWN:
            _known_names[name] = known
    return known


_known_names: dict[bytes, str] = {}


@lru_cache(maxsize=256)  # names that our own code asks for
def _canonical(name: str) -> str:
    return "-".join([part.capitalize() for part in name.split("-")])


class Headers(HTTPHeaders):  # type: ignore[misc]
    """The headers of one request. cyclone's own class has a table of all names ever seen, which clients can
    make grow without limit; this one does not use the table. repeated: the names that came more than once.
    """

    repeated: frozenset[str] = frozenset()

    def __init__(self) -> None:
        dict.__init__(self)

    @classmethod
    def from_raw(cls, pairs: Sequence[tuple[bytes, bytes]]) -> Headers:
        """Take headers as they came. Repeated ones are joined with commas (RFC 9110 5.3), cookies with
        semicolons (RFC 9113 8.2.3)."""
        headers = cls()
        for name, value in pairs:
            key = _known_names.get(name) or header_name(name)
            dict.__setitem__(headers, key, value.decode("latin-1").strip(" \t"))
        if dict.__len__(headers) != len(pairs):
            headers._join_repeated(pairs)
        return headers

    def copy(self) -> Headers:
        """The same headers, which can be changed without changing these."""
        copied = dict.__new__(Headers)
        dict.update(copied, self)
        if "_as_list" in self.__dict__:  # else it follows from the dictionary
            copied.repeated = self.repeated
            copied._as_list = {name: list(values) for name, values in self._as_list.items()}
        return copied

    def _join_repeated(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        lists: dict[str, list[str]] = {}
        for name, value in pairs:
            lists.setdefault(header_name(name), []).append(value.decode("latin-1").strip(" \t"))
        for key, texts in lists.items():
            dict.__setitem__(self, key, ("; " if key == "Cookie" else ",").join(texts))
        self.repeated = frozenset(key for key, texts in lists.items() if len(texts) > 1)
        self._as_list = lists

    @cached_property
    def _as_list(self) -> dict[str, list[str]]:
        """cyclone's lists of values; made when asked for, unless a header is repeated."""
        items: Any = dict.items(self)
        return {name: [value] for name, value in items}

    def add(self, name: str, value: str) -> None:
        """Add a value to those of this header."""
        _ = self._as_list  # without this, the lists would be made of the joined values
        super().add(name, value)

    def __delitem__(self, name: str) -> None:
        _ = self._as_list  # without this, the lists would be made without the header
        super().__delitem__(name)

    exact: Any = dict.get  # for a name in its canonical form, at a third of the cost

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, whatever the case of its name."""
        return dict.get(self, _canonical(name), default)


NO_HEADERS = Headers()


def body_length(headers: Headers, minor: int) -> int | None:
    """The length of the body in bytes; None if it is sent in chunks (RFC 9112 6). minor: of HTTP/1.x.

    Raises Refusal.
    """
    coding = headers.exact("Transfer-Encoding")
    length = headers.exact("Content-Length")
    if coding is not None:
        codings = [part.strip(" \t").lower() for part in coding.split(",")]
        if not minor:
            raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
        if length is not None:
            raise Refusal(400, "both Content-Length and Transfer-Encoding")
        if codings[-1] != "chunked" or codings.count("chunked") > 1:
            raise Refusal(400, "chunked must be the last Transfer-Encoding")
        if len(codings) > 1:
            raise Refusal(501, "the only supported Transfer-Encoding is chunked")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdecimal()):
        raise Refusal(400, "Content-Length is not a number")
    digits = length.lstrip("0")
    return int(digits or "0") if len(digits) < 18 else 10**18  # Python refuses to read thousands of digits
