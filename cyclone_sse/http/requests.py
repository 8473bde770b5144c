"""From a head that was read to cyclone's request object, and to that its body."""

from __future__ import annotations

import ipaddress
import re
import time
from functools import cached_property
from typing import Any
from urllib.parse import unquote_plus

from cyclone.httpserver import HTTPRequest
from cyclone.httputil import HTTPFile
from twisted.internet.interfaces import ISSLTransport

from cyclone_sse.errors import Refusal
from cyclone_sse.http.forms import MULTIPART, URLENCODED, Fields, media_type, multipart, url_encoded
from cyclone_sse.http.headers import Headers
from cyclone_sse.http.request_reader import RequestHead, is_host

_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)  # RFC 9112 3.2.2
_ENCODED = re.compile(r"%(.{0,2})")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ASTERISK = "*"
_TOKEN = "access_token"  # RFC 6750 2.3


class Request(HTTPRequest):  # type: ignore[misc]
    """cyclone's request, made from what was read already; cyclone's own constructor would decode
    the query once more, with replacements for what is not UTF-8.

    arguments: the fields of the query and of a form, by name; form: those of a form alone, in which a key
    may be looked for. access_token: the query's parameter of this name; ``uri`` and ``query`` do not hold it,
    since they are what an application logs. Raises Refusal where target or query are malformed.
    """

    def __init__(self, connection: Any, head: RequestHead) -> None:
        self.connection = connection
        self.method = head.method
        self.headers = head.headers
        self.version = "HTTP/1.1" if head.minor else "HTTP/1.0"
        self.host, self.path, self.query = _target(head)
        self.arguments = url_encoded(self.query.encode("latin-1")) if self.query else {}
        self.access_token: str | None = self.arguments.get(_TOKEN, [None])[-1]
        if _TOKEN in self.arguments:
            self.query = _without_token(self.query)
        self.uri = f"{self.path}?{self.query}" if self.query else self.path
        self.body = b""
        self._start_time = time.time()
        self._finish_time = None

    def __repr__(self) -> str:
        """What may be logged; cyclone's own holds all headers, and so cookies and keys."""
        return f"{type(self).__name__}({self.method} {self.uri} from {self.remote_ip})"

    @cached_property
    def form(self) -> Fields:
        """The fields of a form's body; filled by ``attach``."""
        return {}

    @cached_property
    def files(self) -> dict[str, list[HTTPFile]]:
        """The files of a form's body, likewise."""
        return {}

    @cached_property
    def remote_ip(self) -> str:
        """The client's address: the peer's, unless a trusted proxy has told another."""
        address = forwarded_address(self.headers) if self.connection.trusts_proxy else None
        return address or self.connection._remote_ip

    @cached_property
    def protocol(self) -> str:
        """``http`` or ``https``."""
        return "https" if ISSLTransport.providedBy(self.connection.transport) else "http"

    def attach(self, body: bytes) -> None:
        """The body is there. Raises Refusal when it is a form and malformed."""
        self.body = body
        if not body or self.method not in ("POST", "PUT", "PATCH"):
            return
        kind = self.headers.get("Content-Type")
        if media_type(kind) == URLENCODED:
            self.form = url_encoded(body)
        elif media_type(kind) == MULTIPART:
            self.form, self.files = multipart(kind, body)
        for name, values in self.form.items():
            self.arguments[name] = self.arguments.get(name, []) + values


def forwarded_address(headers: Headers) -> str | None:
    """The client's address as the proxy in front of this server gives it.

    The last one in X-Forwarded-For: the one before was written by whoever spoke to the proxy.
    """
    last = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return None


def _target(head: RequestHead) -> tuple[str, str, str]:
    """Host, path and query (RFC 9112 3.2). Raises Refusal."""
    target = head.target.decode("latin-1")
    host = head.headers.get("Host") or "127.0.0.1"
    if "#" in target:
        raise Refusal(400, "a target has no fragment")
    if head.method == "CONNECT":
        raise Refusal(501, "this server is no proxy")
    if target[0] != "/" and target != _ASTERISK:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not is_host(absolute[1]):
            raise Refusal(400, "malformed target")
        host, target = absolute.groups()  # it counts, whatever Host says
        if target[:1] != "/":
            target = "/" + target if target else "/"
        if target == "/" and head.method == "OPTIONS" and head.target[-1:] != b"/":
            target = _ASTERISK
    elif target == _ASTERISK and head.method != "OPTIONS":
        raise Refusal(400, "malformed target")
    path, _, query = target.partition("?")
    return host, normal_path(path) if "%" in path else path, query


def _without_token(query: str) -> str:
    """The query without the parameter, however its name is written."""
    return "&".join(pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != _TOKEN)


def normal_path(path: str) -> str:
    """The path with what need not be percent-encoded decoded: equivalent ones become equal (RFC 3986 6.2.2).

    Raises Refusal.
    """
    return _ENCODED.sub(_decoded, path)


def _decoded(match: re.Match[str]) -> str:
    if not _HEXADECIMAL.fullmatch(match[1]):
        raise Refusal(400, "malformed percent-encoding in the path")
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0]
