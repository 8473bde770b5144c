"""The base of all handlers of this server: the head of a response, CORS, and refusals as JSON."""

from __future__ import annotations

from inspect import isgenerator
from itertools import chain
from typing import Any

from cyclone.web import ErrorHandler, HTTPError, RequestHandler
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.errors import Refusal, error_body
from cyclone_sse.http.requests import Request
from cyclone_sse.http.responses import (
    PREFLIGHT_AGE,
    REQUEST_HEADERS,
    FieldPairs,
    answer_fields,
    head_lines,
    shared_head,
)

_COPIED = 64 * 1024  # bytes of a body that are sent with the head: a copy of more costs more than a send


class JsonHandler(RequestHandler):  # type: ignore[misc]
    """The base of all handlers of this server: CORS, and refusals as JSON."""

    log = Logger()
    allowed = "GET, HEAD, OPTIONS"
    body_methods: tuple[str, ...] = ()  # requests whose body is read; other bodies are left unread

    def __init__(self, application: Any, request: Request, **kwargs: Any) -> None:
        # cyclone's makes a namespace for templates with each request: too slow when ten thousand clients
        # reconnect at once.
        self.application = application
        self.request = request
        self._headers_written = self._finished = False
        self._auto_finish = True
        self._transforms: Any = None
        self.path_args: Any = None
        self.path_kwargs = None
        self.ui: Any = {}
        self.clear()
        request.connection.no_keep_alive = self.no_keep_alive
        self.initialize(**kwargs)

    def clear(self) -> None:
        """Start the response again."""
        self._own_fields: dict[str, str] | None = None
        self._list_headers: Any = []
        self._write_buffer: Any = []
        self._status_code, self._reason = 200, "OK"
        self.set_default_headers()

    @property
    def _headers(self) -> dict[str, str]:
        """The fields of the answer, made when they are first asked for: see `_shares_head`."""
        if self._own_fields is None:
            request, connection = self.request, self.request.connection
            fields = answer_fields(connection.server.cors.headers(request.headers.exact("Origin")))
            if not connection.keep_alive:
                fields["Connection"] = "close"
            elif request.version != "HTTP/1.1":
                fields["Connection"] = "keep-alive"
            self._own_fields = fields
        return self._own_fields

    @_headers.setter
    def _headers(self, fields: dict[str, str]) -> None:
        self._own_fields = fields

    @property
    def _shares_head(self) -> bool:
        """Whether the answer has just the fields of every answer, so that its head need not be made."""
        return (
            self._own_fields is None
            and self._status_code == 200
            and self._reason == "OK"
            and not self._list_headers
            and not hasattr(self, "_new_cookie")
            and type(self)._generate_headers is JsonHandler._generate_headers
        )

    def _shared_head(self, more: FieldPairs) -> bytes:
        """The head of such an answer without the empty line, with these fields added."""
        request = self.request
        return shared_head(request.connection.server.cors, request.headers.exact("Origin"), more)

    def vary(self, *names: str) -> None:
        """Name headers of the request that the answer depends on."""
        before = self._headers.get("Vary")
        self._headers["Vary"] = ", ".join((before, *names) if before else names)

    def _execute(self, transforms: Any, *args: Any, **kwargs: Any) -> None:
        """Run the method as cyclone does, but without a Deferred where there is nothing to wait for: it makes
        three for each request, a fifth of what a publish costs. A custom `prepare` is left to cyclone."""
        is_custom = type(self).prepare is not RequestHandler.prepare or self.application.settings.get(
            "xsrf_cookies"
        )
        if kwargs or is_custom:
            super()._execute(transforms, *args, **kwargs)
            return
        self._transforms = transforms
        try:
            if self.request.method not in self.SUPPORTED_METHODS:
                raise HTTPError(405)
            self.path_args = [self.decode_argument(arg) for arg in args] if args else args
            answer: Any = getattr(self, self.request.method.lower(), self.default)
            answering = answer(*self.path_args)
            if answering is not None and isgenerator(answering):
                answering = inlineCallbacks(lambda: answering)()
        except Exception:
            self._handle_request_exception(Failure())
            return
        if answering is not None:
            waiting = answering if isinstance(answering, Deferred) else maybeDeferred(lambda: answering)
            waiting.addCallbacks(self._end_answer, self._handle_request_exception)
            # cyclone's own does nothing, and would cost a Deferred for each answer. (A handler may set
            # another on itself.)
            if getattr(self.on_connection_close, "__func__", None) is not RequestHandler.on_connection_close:
                self.notifyFinish().addCallback(self.on_connection_close)
        elif self._auto_finish and not self._finished:
            self.finish()

    def finish(self, chunk: Any = None) -> None:
        """End the answer as cyclone does; one in one piece takes the short way."""
        if self._headers_written or self._finished or self._write_buffer or self._transforms:
            super().finish(chunk)
            return
        body = chunk.encode() if isinstance(chunk, str) else chunk
        if not isinstance(body, bytes) or self._status_code in (204, 304):
            super().finish(chunk)
            return
        self._headers_written = True
        connection, length = self.request.connection, str(len(body))
        if self._shares_head and connection.keep_alive and self.request.version == "HTTP/1.1":
            head = self._shared_head((("Content-Length", length),)) + b"\r\n"
        else:
            self._headers["Content-Length"] = length
            head = self._generate_headers()
        if self.request.method == "HEAD":
            connection.write(head)
        elif len(body) <= _COPIED:
            connection.write(head + body)
        else:
            connection.write(head)
            connection.write(body)
        connection.finish()
        self.application.log_request(self)
        self._finished = True
        self.on_finish()

    def _end_answer(self, _: object) -> None:
        if self._auto_finish and not self._finished:
            self.finish()

    def compute_etag(self) -> None:
        """Return no ETag: the answers change with each request, and a hash would cost time."""

    def _generate_headers(self) -> bytes:
        """The head of the response in one go; cyclone looks at each name and value three times.

        The version is ours, also to HTTP/1.0 (RFC 9110 2.5)."""
        if hasattr(self, "_new_cookie"):
            self.request.version = "HTTP/1.1"
            return super()._generate_headers()  # type: ignore[no-any-return]
        fields = chain(self._headers.items(), self._list_headers)
        return head_lines(self._status_code, self._reason, fields) + b"\r\n"

    def options(self, *args: Any) -> None:
        """Answer which methods are allowed; to a browser that asks before a cross-origin request, also which
        headers (Fetch, "CORS-preflight request")."""
        self.set_status(204)
        self.set_header("Allow", self.allowed)
        headers = self.request.headers
        if "Origin" in headers and "Access-Control-Request-Method" in headers:
            self.vary("Access-Control-Request-Method", "Access-Control-Request-Headers")
            if "Access-Control-Allow-Origin" in self._headers:
                self.set_header("Access-Control-Allow-Methods", self.allowed)
                self.set_header("Access-Control-Allow-Headers", REQUEST_HEADERS)
                self.set_header("Access-Control-Max-Age", PREFLIGHT_AGE)
        self.clear_header("Content-Type")
        self._transforms = []
        self.flush()  # by itself: finish would add a Content-Length, which a 204 must not have
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the reason: ``{"status": "error", "reason": ...}``."""
        self.request.connection.server.refusals[status_code] += 1
        self._headers["Cache-Control"] = "no-store"
        reason, details = self._reason, None
        refusal = kwargs.get("exception")
        if isinstance(refusal, Refusal):
            reason, details = refusal.reason, refusal.details
            self._headers.update(refusal.headers)
        if status_code == 405:
            reason = f"{reason}: use {self.allowed}"
            self.set_header("Allow", self.allowed)
        elif status_code == 401 and "WWW-Authenticate" not in self._headers:
            self.set_header("WWW-Authenticate", 'Bearer realm="cyclone-sse"')  # RFC 9110 15.5.2
        self._transforms = []
        self.finish(error_body(reason, details))

    def _handle_request_exception(self, error: Any) -> None:
        refusal = error.value if isinstance(error, Failure) else error
        if isinstance(refusal, Refusal):
            self.send_error(refusal.status, exception=refusal)
        else:
            super()._handle_request_exception(error)


class NotFoundHandler(JsonHandler, ErrorHandler):  # type: ignore[misc]
    """Answers 404 for all unknown paths, with any method."""

    @property
    def reason(self) -> str:
        """The reason in the answer."""
        return "Not Found"

    def _execute(self, transforms: Any, *args: Any, **kwargs: Any) -> None:
        self._handle_request_exception(Refusal(404, self.reason))
