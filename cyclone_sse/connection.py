"""The HTTP connection: a strict parser with limits, in place of cyclone's.

cyclone 1.3 hangs on a negative Content-Length, takes a chunked body for the next request, and
limits nothing. Here httptools (llhttp) reads the requests, and cyclone sees only complete, sound
ones. It must hold: what is refused gets its status and a reason (RFC 9110, 9112) and is
then disconnected; nobody can make the server hold more than a head and a body of bounded size,
for longer than a bounded time; pipelined requests are answered in order; and whatever a
subscriber sends after its request is dropped.

Knows nothing of channels or events: an application's handlers do with it what they did with
cyclone's class, whose place it takes as ``Application.protocol``.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
from cyclone.httpserver import HTTPConnection, HTTPRequest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.requests import BadRequest, Headers, build, forwarded_address

MAX_HEAD = 16 * 1024  # bytes of request line and headers
MAX_HEADERS = 100
MAX_BODY = 1024 * 1024  # bytes
REQUEST_TIMEOUT = 10.0  # seconds from a request's first byte to its last
IDLE_TIMEOUT = 75.0  # seconds between requests on one connection
REFUSAL_TIMEOUT = 5.0  # seconds for a refused client to read why

_UNKNOWN_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/\S*) HTTP/1\.[01]\r?\n")


class _Waiting(NamedTuple):
    """A request, or what to say to the one that could not be read."""

    request: HTTPRequest | BadRequest
    keep_alive: bool


@dataclass
class Limits:
    """What connections may do, and which there are: shared by all of one service.

    max_body: bytes. trust_proxy: believe X-Forwarded-For. clock: gives the time in seconds.
    """

    clock: Any
    max_body: int = MAX_BODY
    trust_proxy: bool = False
    open: set[Connection] = field(default_factory=set)

    def sweep(self) -> None:
        """Close the connections whose time is over; to be called about once a second."""
        now = self.clock.seconds()
        for connection in [c for c in self.open if c.deadline is not None and c.deadline <= now]:
            connection.time_out()


class Connection(HTTPConnection):  # type: ignore[misc]
    """One connection of a client; made by the application, which is Twisted's factory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser: Any = None  # None: nothing is read any more
        self.deadline: float | None = None  # when the connection's patience ends
        self.fresh = True  # nothing has been written

    # The transport calls these.

    def connectionMade(self) -> None:
        """Begin to read requests."""
        super().connectionMade()
        self._limits.open.add(self)
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[_Waiting] = deque()
        self._running = False
        self._keep_alive = True
        self._closing = self._paused = False
        self._in_head = self._in_request = False
        self.deadline = self._limits.clock.seconds() + REQUEST_TIMEOUT

    def dataReceived(self, data: bytes) -> None:
        """Parse what came, and run the requests that are complete with it."""
        if self._parser is None:
            self.rawDataReceived(data)
            return
        self._completed = False
        try:
            self._parser.feed_data(data)
            self._guard_head(len(data))
        except httptools.HttpParserUpgrade:
            # Not granted: the request is answered as it is, and ends the connection.
            self._stop_reading()
        except httptools.HttpParserError as error:
            self._give_up(error, data)
        except BadRequest as refusal:
            self._last(refusal)
        self._run()

    def rawDataReceived(self, data: bytes) -> None:
        """Drop what a subscriber sends; a websocket handler puts its own method here."""

    def setRawMode(self) -> None:
        """Read no more requests: a handler has taken the connection over."""
        self._stop_reading()
        self._waiting.clear()
        self.deadline = None

    def connectionLost(self, reason: Failure) -> None:
        """Tell the handler that the client has gone."""
        self._limits.open.discard(self)
        self.setRawMode()
        super().connectionLost(reason)

    # The parser calls these.

    def on_message_begin(self) -> None:
        """The first byte of a request line is there."""
        self._in_head = self._in_request = True
        self._began = self._limits.clock.seconds()
        self._target = b""
        self._headers = Headers()
        self._head_size = self._raw_size = self._header_count = self._body_size = 0
        self._body: list[bytes] = []

    def on_url(self, part: bytes) -> None:
        """The target of the request, maybe in several parts."""
        self._target += part
        self._count_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body, which is counted and left out."""
        self._header_count += 1
        self._count_head(len(name) + len(value) + 4)
        if self._header_count > MAX_HEADERS:
            raise BadRequest(431, f"more than {MAX_HEADERS} headers")
        if not self._in_head:
            return
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise BadRequest(501, "no transfer coding but chunked is known here")
        self._headers.add_raw(name, value)

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body is there."""
        self._in_head = False
        headers = self._headers
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadRequest(505, "HTTP/1.0 and HTTP/1.1 are known here")
        if len(headers.get_list("Host")) > 1:
            raise BadRequest(400, "more than one Host")
        length = headers.get("Content-Length")
        if length is not None and int(length) > self._limits.max_body:
            raise BadRequest(413, f"the body is larger than {self._limits.max_body} bytes")
        has_body = length not in (None, "0") or "Transfer-Encoding" in headers
        if has_body and self._parser.should_upgrade():
            raise BadRequest(400, "a request with a body cannot ask for an upgrade")
        if headers.get("Expect", "").lower() == "100-continue" and not self._request and not self._waiting:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """A piece of the body, already freed of its chunks."""
        self._body_size += len(part)
        if self._body_size > self._limits.max_body:
            raise BadRequest(413, f"the body is larger than {self._limits.max_body} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        """A whole request is there."""
        self._in_request = False
        self._completed = True
        version = self._parser.get_http_version()
        # HTTP/1.0 is kept alive only where cyclone will say so in the response.
        keep_alive = self._parser.should_keep_alive() and (
            version == "1.1" or self._headers.get("Connection") == "Keep-Alive"
        )
        method = self._parser.get_method().decode()
        request = build(
            self, method, self._target, f"HTTP/{version}", self._headers, b"".join(self._body)
        )
        self._body = []
        self._waiting.append(_Waiting(request, keep_alive))

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD - len("OPTIONS  HTTP/1.1\r\n\r\n"):
            raise BadRequest(431, f"the request's head is larger than {MAX_HEAD} bytes")

    def _guard_head(self, size: int) -> None:
        """Bound a head of which no header ends. Exact unless other requests came with it."""
        if self._in_head and not self._completed:
            self._raw_size += size
            if self._raw_size > MAX_HEAD:
                raise BadRequest(431, f"the request's head is larger than {MAX_HEAD} bytes")

    def _give_up(self, error: httptools.HttpParserError, data: bytes) -> None:
        """The parser cannot go on: find out what to say."""
        if isinstance(error.__context__, BadRequest):
            self._last(error.__context__)
            return
        unknown = _UNKNOWN_METHOD.match(data)
        if isinstance(error, httptools.HttpParserInvalidMethodError) and unknown and not self._completed:
            # A sound request line: let the handler say which methods it allows.
            request = build(self, unknown[1].decode(), unknown[2], "HTTP/1.1", Headers(), b"")
            self._waiting.append(_Waiting(request, keep_alive=False))
            self._stop_reading()
            return
        self._last(BadRequest(400, f"malformed request: {error}"))

    def _last(self, refusal: BadRequest) -> None:
        """Nothing sound can follow: refuse when the requests before are answered."""
        self._waiting.append(_Waiting(refusal, keep_alive=False))
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._parser = None
        self._in_head = self._in_request = False
        self._body = []

    # The requests, one after the other.

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        while self._waiting and self._request is None and not self._closing:
            waiting = self._waiting.popleft()
            self._keep_alive = waiting.keep_alive
            self.deadline = None
            if isinstance(waiting.request, BadRequest):
                self._refuse(waiting.request)
            else:
                self._request = waiting.request
                self.request_callback(waiting.request)
        self._running = False
        self._pace()

    def _pace(self) -> None:
        """Read on only when there is nothing to answer; set how long to wait for it."""
        if self._request is not None:
            if self._waiting and not self._paused:
                self._paused = True
                self.transport.pauseProducing()
        elif self._parser is not None and not self._closing:
            if self._in_request:
                self.deadline = self._began + REQUEST_TIMEOUT
            elif self.deadline is None:
                self.deadline = self._limits.clock.seconds() + IDLE_TIMEOUT
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this request."""
        return self._keep_alive and not self.no_keep_alive

    def remote_address(self, headers: Headers) -> str:
        """The client's address."""
        forwarded = forwarded_address(headers) if self._limits.trust_proxy else None
        return forwarded or str(self._remote_ip)

    def write(self, chunk: bytes) -> None:
        """Send a part of the response."""
        self.fresh = False
        self.transport.write(chunk)

    def notifyFinish(self) -> Deferred[Any]:
        """A Deferred that fires when the present request is finished or its client gone."""
        if self._request is None:
            return Deferred()  # cyclone asks for it once more after the end
        return super().notifyFinish()  # type: ignore[no-any-return]

    def finish(self) -> None:
        """The response is complete: take the next request, or end the connection."""
        self._request = None
        finished, self._finish_callback = self._finish_callback, None
        if finished is not None:
            finished.callback(None)
        if not self.keep_alive:
            self._close()
        elif not self._running:
            self._limits.clock.callLater(0, self._run)

    def _refuse(self, refusal: BadRequest) -> None:
        status = HTTPStatus(refusal.status)
        body = json.dumps({"status": "error", "reason": str(refusal)}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.write(head.encode() + body)
        self._stop_reading()
        self._closing = True
        if hasattr(type(self.transport), "loseWriteConnection"):
            # A client that is still sending must be able to read this: closing the socket with
            # bytes unread would reset the connection (RFC 9112 9.6).
            self.transport.loseWriteConnection()
            self.deadline = self._limits.clock.seconds() + REFUSAL_TIMEOUT
        else:
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._stop_reading()
        self._waiting.clear()
        self.deadline = self._limits.clock.seconds() + REFUSAL_TIMEOUT
        self.transport.loseConnection()

    def shut(self) -> None:
        """The server stops: finish the request under way, take no other."""
        if self._request is not None and self._parser is not None:
            self._keep_alive = False
            self._waiting.clear()
        elif not self._closing:
            self._close()

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._closing:
            self.transport.abortConnection()
        elif self._in_request:
            self._refuse(BadRequest(408, f"the request took more than {REQUEST_TIMEOUT:.0f} s"))
        else:
            self._close()
