"""From a parsed head and body to cyclone's request object.

Arguments are text: what a client percent-encoded or sent as a form must be UTF-8, or the request
is refused. (cyclone itself replaces what it cannot decode, and so changes messages silently.)
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qs

from cyclone.httpserver import HTTPRequest
from cyclone.httputil import HTTPFile, HTTPHeaders
from twisted.internet.interfaces import ISSLTransport

from cyclone_sse.errors import Refusal

MAX_FIELDS = 1000  # form fields or query parameters of one request


@lru_cache(maxsize=1024)
def header_name(name: bytes) -> str:
    """The canonical form, ``Last-Event-Id``."""
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))


class Headers(HTTPHeaders):  # type: ignore[misc]
    """Request headers; cyclone's class, but filled without its table of all names ever seen,
    which strangers can make grow without bound."""

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header; most are asked for in their canonical form."""
        value = dict.get(self, name)
        return super().get(name, default) if value is None else value

    def add_raw(self, name: bytes, value: bytes) -> None:
        """Add a header as it came. Repeated ones are joined with commas (RFC 9110 5.3)."""
        key, text = header_name(name), value.decode("latin-1")
        if key in self._as_list:
            dict.__setitem__(self, key, f"{dict.__getitem__(self, key)},{text}")
            self._as_list[key].append(text)
        else:
            dict.__setitem__(self, key, text)
            self._as_list[key] = [text]


NO_HEADERS = Headers()


@dataclass(slots=True)
class Parsed:
    """One request as it was read. keep_alive: the client wants the connection to stay open."""

    method: str
    target: bytes
    version: str
    headers: Headers
    body: bytes
    keep_alive: bool


class Request(HTTPRequest):  # type: ignore[misc]
    """cyclone's request, made from what was read already; cyclone's own constructor would decode
    the query once more, with replacements for what is not UTF-8."""

    def __init__(self, connection: Any, parsed: Parsed, uri: str) -> None:
        self.connection = connection
        self.method = parsed.method
        self.uri = uri
        self.path, _, self.query = uri.partition("?")
        self.version = parsed.version
        self.headers = parsed.headers
        self.body = parsed.body
        self.files: dict[str, list[HTTPFile]] = {}
        self.arguments = _fields(self.query.encode("latin-1")) if self.query else {}
        self.host = parsed.headers.get("Host") or "127.0.0.1"
        forwarded = connection.forwarded_address(parsed.headers)
        if forwarded:
            self.remote_ip = forwarded
        self.protocol = "https" if ISSLTransport.providedBy(connection.transport) else "http"
        self._start_time = time.time()
        self._finish_time = None

    @cached_property
    def remote_ip(self) -> str:
        """The client's address: the peer's, unless a proxy has told another."""
        return self.connection._remote_ip  # type: ignore[no-any-return]


def build(connection: Any, parsed: Parsed) -> HTTPRequest:
    """The request as handlers see it. Raises Refusal where its parameters are malformed."""
    uri = parsed.target.decode("latin-1")
    if not uri.startswith("/"):
        # absolute-form, RFC 9112 3.2.2; the authority is not looked at
        uri = "/" + uri.partition("://")[2].partition("/")[2]
    request = Request(connection, parsed, uri)
    body = parsed.body
    if body and parsed.method in ("POST", "PUT", "PATCH"):
        kind = parsed.headers.get("Content-Type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            _merge(request.arguments, _fields(body))
        elif kind.startswith("multipart/form-data"):
            _read_multipart(request, kind, body)
    return request


def forwarded_address(headers: Headers) -> str | None:
    """The client's address as the proxy in front of this server gives it.

    The last one in X-Forwarded-For: the one before was written by whoever spoke to the proxy.
    """
    last = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return None


def _fields(data: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(
            data.decode(),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except UnicodeDecodeError:
        raise Refusal(400, "the parameters are not UTF-8") from None
    except ValueError:
        raise Refusal(400, f"more than {MAX_FIELDS} parameters") from None


def _merge(arguments: dict[str, list[str]], fields: dict[str, list[str]]) -> None:
    for name, values in fields.items():
        arguments.setdefault(name, []).extend(values)


def _read_multipart(request: HTTPRequest, content_type: str, body: bytes) -> None:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise Refusal(400, "malformed multipart/form-data")
    for part in message.iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        if not isinstance(name, str):
            continue
        value = part.get_payload(decode=True) or b""
        assert isinstance(value, bytes)
        filename = part.get_filename()
        if filename:
            file = HTTPFile(filename=filename, body=value, content_type=part.get_content_type())
            request.files.setdefault(name, []).append(file)
            continue
        try:
            request.arguments.setdefault(name, []).append(value.decode())
        except UnicodeDecodeError:
            raise Refusal(400, "the parameters are not UTF-8") from None
