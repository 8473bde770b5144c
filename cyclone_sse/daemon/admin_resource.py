"""A path of the admin port: HEAD, methods that are not allowed, and headers that any program may send.

twisted.web answers HEAD, but with a line in the log each time; and a header that is not UTF-8, or a host that
is malformed, raises an exception. Knows no page.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.web.resource import Resource
from twisted.web.server import Request


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
        return super().render(request)


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
