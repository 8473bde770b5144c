"""What all handlers of this server share: the head of a response, CORS, and refusals as JSON."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from itertools import chain
from typing import Any

from cyclone.web import ErrorHandler, HTTPError, RequestHandler, StaticFileHandler
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers import Broker
from cyclone_sse.errors import Refusal, error_body

_EVERY_RESPONSE = {
    "Server": "cyclone-sse",
    "Content-Type": "application/json",
    "Access-Control-Expose-Headers": "Last-Event-ID",
}
_PREFLIGHT_AGE = 86400  # seconds a browser may remember the answer to OPTIONS
_REQUEST_HEADERS = "Cache-Control, Content-Type, Last-Event-ID, X-Requested-With"


class JsonHandler(RequestHandler):  # type: ignore[misc]
    """What all handlers of this server share: CORS, and refusals as JSON."""

    log = Logger()
    allowed = "GET, HEAD, OPTIONS"

    def __init__(self, application: Any, request: Any, **kwargs: Any) -> None:
        # In place of cyclone's, which makes a namespace for templates with each request; what
        # matters when ten thousand clients come back at once.
        self.application = application
        self.request = request
        self._headers_written = self._finished = False
        self._auto_finish = True
        self._transforms: Any = None
        self.path_args = self.path_kwargs = None
        self.ui: Any = {}
        self.clear()
        request.connection.no_keep_alive = self.no_keep_alive
        self.initialize(**kwargs)

    def clear(self) -> None:
        """Begin the response anew."""
        self._headers = dict(_EVERY_RESPONSE, Date=_http_date(int(time.time())))
        self._list_headers: Any = []
        self._write_buffer: Any = []
        self._status_code, self._reason = 200, "OK"
        self.set_default_headers()
        if self.request.version != "HTTP/1.1" and self.request.connection.keep_alive:
            self.set_header("Connection", "Keep-Alive")

    @property
    def broker(self) -> Broker:
        """The application's broker."""
        return self.application.broker  # type: ignore[no-any-return]

    def set_default_headers(self) -> None:
        """Say who may read the response (Fetch, "CORS protocol")."""
        if not self.request.connection.keep_alive:
            self.set_header("Connection", "close")
        origins = self.broker.settings.get("cors-origin")
        if not origins or "*" in origins:
            self._headers["Access-Control-Allow-Origin"] = "*"
            return
        self.set_header("Vary", "Origin")
        origin = self.request.headers.get("Origin")
        if origin in origins:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Allow-Credentials", "true")

    def _generate_headers(self) -> bytes:
        """The head of the response in one go; cyclone looks at each name and value three times."""
        if hasattr(self, "_new_cookie"):
            return super()._generate_headers()  # type: ignore[no-any-return]
        lines = [f"{self.request.version} {self._status_code} {self._reason}"]
        for name, value in chain(self._headers.items(), self._list_headers):
            lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
        return "\r\n".join([*lines, "\r\n"]).encode()

    def options(self, *args: Any) -> None:
        """Answer a browser's question before it sends a cross-origin request."""
        self.set_status(204)
        self.set_header("Allow", self.allowed)
        self.set_header("Access-Control-Allow-Methods", self.allowed)
        self.set_header("Access-Control-Allow-Headers", _REQUEST_HEADERS)
        self.set_header("Access-Control-Max-Age", _PREFLIGHT_AGE)
        self.clear_header("Content-Type")
        self._transforms = []
        self.flush()  # by itself: finish would add a Content-Length, which a 204 must not have
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong: ``{"status": "error", "reason": ...}``."""
        if status_code == 405:
            self.set_header("Allow", self.allowed)
        reason = self._reason
        refusal = kwargs.get("exception")
        if isinstance(refusal, Refusal):
            reason = refusal.reason
            self._headers.update(refusal.headers)
        self.finish(error_body(reason))

    def _handle_request_exception(self, error: Any) -> None:
        refusal = error.value if isinstance(error, Failure) else error
        if isinstance(refusal, Refusal):
            self.send_error(refusal.status, exception=refusal)
        else:
            super()._handle_request_exception(error)


class NotFoundHandler(JsonHandler, ErrorHandler):  # type: ignore[misc]
    """Every path that leads nowhere."""


class MediaHandler(JsonHandler, StaticFileHandler):  # type: ignore[misc]
    """The demo page and the scripts it needs."""

    def parse_url_path(self, url_path: str) -> str:
        """From the path to the file's name."""
        if "\0" in url_path:
            raise HTTPError(404)
        return "demo.html" if url_path == "demo" else url_path

    def prepare(self) -> None:
        """Always send the file: cyclone 1.3 fails on a malformed If-Modified-Since."""
        self.request.headers.pop("If-Modified-Since", None)

    def set_extra_headers(self, path: str) -> None:
        """Let nobody keep an old page."""
        self.set_header("Cache-Control", "no-cache")


@lru_cache(maxsize=2)
def _http_date(now: int) -> str:
    """The Date of a response (RFC 9110 5.6.7), made once a second. now: seconds since the epoch."""
    return formatdate(now, usegmt=True)
