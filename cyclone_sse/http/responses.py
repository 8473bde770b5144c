"""The head of all answers, including those to malformed requests.

Date, server, CORS, and ``nosniff``; and the answers that a connection sends without a handler. Plain Python.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from cyclone_sse import __version__
from cyclone_sse.errors import Refusal, error_body

EVERY_ANSWER: Mapping[str, str] = {
    "Server": f"cyclone-sse/{__version__}",
    "Content-Type": "application/json",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Expose-Headers": "Last-Event-ID, Retry-After, WWW-Authenticate",
}
_ALL_ORIGINS: Mapping[str, str] = {"Access-Control-Allow-Origin": "*"}
_NO_ORIGIN: Mapping[str, str] = {"Vary": "Origin"}
REQUEST_HEADERS = (
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, X-Requested-With"
)
FieldPairs = tuple[tuple[str, str], ...]  # names and values
PREFLIGHT_AGE = 86400  # seconds a browser may remember the answer to OPTIONS


class Cors:
    """The origins whose pages may read the answers (Fetch, "CORS protocol").

    origins: as browsers send them, in lower case; ``*`` means all, without cookies.
    """

    __slots__ = ("_origins",)

    def __init__(self, origins: Collection[str] | None) -> None:
        self._origins = frozenset(origins or ("*",))

    def listed(self, origin: str | None) -> str | None:
        """The origin if its answers have fields of their own; None if they have those of no origin."""
        if origin is None or "*" in self._origins or origin.lower() not in self._origins:
            return None
        return origin

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """The fields for a page of this origin; None: the request has no origin."""
        if "*" in self._origins:
            return _ALL_ORIGINS
        page = self.listed(origin)
        if page is None:
            return _NO_ORIGIN
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": page,
            "Access-Control-Allow-Credentials": "true",
        }


@lru_cache(maxsize=2)
def _fields_at(now: int) -> Mapping[str, str]:
    return {**EVERY_ANSWER, "Date": formatdate(now, usegmt=True)}  # RFC 9110 5.6.7


def answer_fields(more: Mapping[str, str]) -> dict[str, str]:
    """The header fields of every answer, which are made once a second, and these."""
    return {**_fields_at(int(time.time())), **more}


def shared_head(cors: Cors, origin: str | None, more: FieldPairs) -> bytes:
    """The head of an answer 200 without its empty line, made once a second for all requests that get it.

    origin: of the request. more: further fields.
    """
    return _shared_head(int(time.time()), cors, cors.listed(origin), more)


@lru_cache(maxsize=256)
def _shared_head(now: int, cors: Cors, origin: str | None, more: FieldPairs) -> bytes:
    fields = {**_fields_at(now), **cors.headers(origin)}
    for name, value in more:
        fields[name] = f"{fields[name]}, {value}" if name == "Vary" and name in fields else value
    return head_lines(200, "OK", fields.items())


def head_lines(status: int, reason: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """The status line and the lines of these fields."""
    lines = [f"{name}: {value}\r\n" for name, value in fields]
    return f"HTTP/1.1 {status} {reason}\r\n{''.join(lines)}".encode()


def answer(status: int, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A whole response. body: None for a status without a body, such as 204."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    fields = answer_fields(headers)
    if body is None:
        del fields["Content-Type"]
    else:
        fields["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (body or b"")


def server_options(cors: Mapping[str, str]) -> bytes:
    """The answer to ``OPTIONS *``: the methods that the server as a whole knows. cors: further fields."""
    return answer(204, {**cors, "Allow": "GET, HEAD, POST, OPTIONS"}, None)


def plain_http_refused() -> bytes:
    """The answer in clear text to a client that speaks plain HTTP on a port for TLS."""
    return refusal_answer(Refusal(400, "this port serves only HTTPS"), Cors(None).headers(None))


def refusal_answer(refusal: Refusal, headers: Mapping[str, str]) -> bytes:
    """The answer to a refused client, after which the connection is closed."""
    fields = {**headers, **refusal.headers, "Cache-Control": "no-store", "Connection": "close"}
    return answer(refusal.status, fields, error_body(refusal.reason))
