"""The target of a request: host, path and query, from the request line (RFC 9112 3.2)."""

from __future__ import annotations

import re
from functools import lru_cache

from cyclone_sse.errors import Refusal

ASTERISK = "*"  # the target of an OPTIONS that asks for the server as a whole

_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)  # RFC 9112 3.2.2
_ENCODED = re.compile(r"%(.{0,2})")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOST = re.compile(  # RFC 9110 7.2, RFC 3986 3.2.2
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?"
)
_SHORT_HOST = 100  # characters; longer ones are not remembered


def split_target(method: str, raw: bytes, host: str | None) -> tuple[str, str, str]:
    """Host, path and query of a target. host: that of the header. Raises Refusal."""
    target = raw.decode("latin-1")
    host = host or "127.0.0.1"
    if "#" in target:
        raise Refusal(400, "malformed target: it has a fragment")
    if method == "CONNECT":
        raise Refusal(501, "this server is not a proxy")
    if target[0] != "/" and target != ASTERISK:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not is_host(absolute[1]):
            raise Refusal(400, "malformed target: expected a path, or http://HOST/PATH")
        host, target = absolute.groups()  # it takes precedence over the header Host
        if target[:1] != "/":
            target = "/" + target if target else "/"
        if target == "/" and method == "OPTIONS" and raw[-1:] != b"/":
            target = ASTERISK
    elif target == ASTERISK and method != "OPTIONS":
        raise Refusal(400, "malformed target: * is only for OPTIONS")
    path, _, query = target.partition("?")
    return host, normal_path(path) if "%" in path else path, query


def normal_path(path: str) -> str:
    """The path without unnecessary percent-encoding, so that equivalent paths are equal (RFC 3986 6.2.2).

    Raises Refusal.
    """
    return _ENCODED.sub(_decoded, path)


def _decoded(match: re.Match[str]) -> str:
    if not _HEXADECIMAL.fullmatch(match[1]):
        raise Refusal(400, "malformed percent-encoding in the path")
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0]


def is_host(text: str) -> bool:
    """Whether this text is a host, with or without a port."""
    # Without a limit, clients could fill the memory with long ones.
    return _is_short_host(text) if len(text) <= _SHORT_HOST else _HOST.fullmatch(text) is not None


@lru_cache(maxsize=256)
def _is_short_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None
