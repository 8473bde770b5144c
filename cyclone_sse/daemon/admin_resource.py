"""The paths of the admin port: HEAD, what is not allowed or not found, and what any program may send.

twisted.web answers HEAD, but with a line in the log each time; it refuses with a page of HTML; and a header
that is not UTF-8, or a host that is malformed, raises an exception. Knows no page.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.web.resource import Resource
from twisted.web.server import Request

from cyclone_sse.errors import error_body

BODY_MAX = 65536  # bytes; no path reads a body


class AdminRequest(Request):
    """A request with a short body.

    Without this, a long form would be stored and then parsed in one turn, of seconds.
    """

    _length = 0
    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that is announced to be too long."""
        super().gotLength(0)
        self._expect(length or 0)

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body."""
        self._length += len(data)
        self._expect(self._length)
        if not self._is_refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer, unless the request was refused."""
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def _expect(self, length: int) -> None:
        if length > BODY_MAX and not self._is_refused:
            self._is_refused = True
            transport: Any = self.channel.transport
            transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            self.channel.loseConnection()


class AdminResource(Resource):
    """One path."""

    isLeaf = True

    def has_method(self, method: bytes) -> bool:
        """Whether the path has this method; HEAD is a GET without a body."""
        name = "GET" if method == b"HEAD" else method.decode("latin-1")
        return hasattr(self, f"render_{name}")

    def render(self, request: Request) -> Any:
        """Answer; to HEAD like to GET, without the body."""
        answer = self.answer(request)
        if request.method != b"HEAD" or not isinstance(answer, bytes):
            return answer
        # Without this, each HEAD of a monitor would be a line in the log.
        request.setHeader("Content-Length", str(len(answer)))
        return b""

    def answer(self, request: Request) -> Any:
        """The body of the answer, or NOT_DONE_YET: a hook for subclasses."""
        if not self.has_method(request.method):
            allowed = filter(self.has_method, (b"GET", b"HEAD", b"POST"))
            request.setHeader("Allow", b", ".join(allowed))
            return refuse(request, 405, "method not allowed")
        return super().render(request)


class NotFound(AdminResource):
    """Any other path."""

    def answer(self, request: Request) -> bytes:
        """Refuse."""
        return refuse(request, 404, "not found")


class Root(Resource):
    """The paths of the port: its children."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return NotFound()


def refuse(request: Request, status: int, reason: str) -> bytes:
    """Answer with a reason, as JSON."""
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    return error_body(reason)


def header(request: Request, name: bytes) -> str | None:
    """The last value of a header as text; None if there is none. Any bytes are text."""
    values = request.requestHeaders.getRawHeaders(name)
    return values[-1].decode("latin-1") if values else None


def host_in(url: str) -> str:
    """The host in a URL without its port; empty if there is none, also if it is malformed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
