"""The HTTP connection: strict, limited and timed, in place of cyclone's.

cyclone 1.3 hangs on a negative Content-Length, takes a chunked body for the next request, and
limits nothing. Here ``reader`` reads the requests, and cyclone sees only complete, sound ones.
It must hold: what is refused gets its status and a reason (RFC 9110, 9112) and is then
disconnected; a request has a bounded time to be complete; pipelined requests are answered in
order; and whatever a subscriber sends after its request is dropped.

Knows nothing of channels or events: an application's handlers do with it what they did with
cyclone's class, whose place it takes as ``Application.protocol``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from cyclone.httpserver import HTTPConnection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyclone_sse.errors import Refusal, error_body
from cyclone_sse.http.reader import MAX_BODY, RequestReader
from cyclone_sse.http.requests import Headers, Parsed, build, forwarded_address

REQUEST_TIMEOUT = 10.0  # seconds from a request's first byte to its last
IDLE_TIMEOUT = 75.0  # seconds between requests on one connection
REFUSAL_TIMEOUT = 5.0  # seconds for a refused client to read why


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


@implementer(IHalfCloseableProtocol)
class Connection(HTTPConnection):  # type: ignore[misc]
    """One connection of a client; made by the application, which is Twisted's factory."""

    log = Logger()
    _finish_callback: Deferred[Any] | None

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reader: RequestReader | None = None  # None: nothing is read any more
        self._waiting: list[Parsed | Refusal] = []  # read, not yet begun
        self._running = self._paused = self._closing = False
        self._streaming = self._half_closed = False
        self._keep_alive = True
        self._began: float | None = None  # when the request that is being read began
        self.deadline: float | None = None  # when the connection's patience ends
        self.fresh = True  # nothing has been written

    # The transport calls these.

    def connectionMade(self) -> None:
        """Begin to read requests."""
        super().connectionMade()
        self._limits.open.add(self)
        self._reader = RequestReader(self._limits.max_body)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # an event must not wait for the last one's ACK
        self.deadline = self._limits.clock.seconds() + REQUEST_TIMEOUT

    def dataReceived(self, data: bytes) -> None:
        """Read what came, and run the requests that are complete with it."""
        reader = self._reader
        if reader is None:
            self.rawDataReceived(data)
            return
        complete = reader.feed(data)
        if not reader.in_request:
            self._began = None
        elif complete or self._began is None:
            self._began = self._limits.clock.seconds()
        self._waiting += complete
        if reader.wants_continue and self._request is None and not self._waiting:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if reader.ended:
            self._reader = None
        self._run()

    def rawDataReceived(self, data: bytes) -> None:
        """Drop what a subscriber sends; a websocket handler puts its own method here."""

    def setRawMode(self) -> None:
        """Read no more requests: a handler has taken the connection over."""
        self._stop_reading()
        self._streaming = True
        self.deadline = None
        if self._paused:  # it waited behind another request; its end must be noticed
            self._paused = False
            self.transport.resumeProducing()
        if self._half_closed:
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The client sends no more. It may still wait for an answer (RFC 9112 9.6), but a
        subscriber that closes its side has gone: nothing else would tell before the next ping."""
        self._half_closed = True
        if self._streaming:
            self.transport.abortConnection()
        elif self._request is None and not self._waiting:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The answer to a refused request is out; the client's side is still open."""

    def connectionLost(self, reason: Failure) -> None:
        """Tell the handler that the client has gone."""
        self._limits.open.discard(self)
        self._stop_reading()
        self.deadline = None
        super().connectionLost(reason)
        self._request = None  # it knows this connection: without the circle both go at once

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._waiting = []

    # The requests, one after the other.

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        while self._waiting and self._request is None and not self._closing:
            self.deadline = None
            try:
                self._begin(self._waiting.pop(0))
            except Exception:
                # A custom application's handler, before cyclone guards it.
                self.log.failure("a request failed")
                self._request = None
                self._refuse(Refusal(500, "Internal Server Error"))
        self._running = False
        self._pace()

    def _begin(self, parsed: Parsed | Refusal) -> None:
        if isinstance(parsed, Refusal):
            self._refuse(parsed)
            return
        self._keep_alive = parsed.keep_alive
        try:
            self._request = build(self, parsed)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.request_callback(self._request)

    def _pace(self) -> None:
        """Read on only when there is nothing to answer; set how long to wait for it."""
        if self._request is not None:
            if self._waiting and not self._paused:
                self._paused = True
                self.transport.pauseProducing()
        elif self._reader is not None and not self._closing:
            if self._began is not None:
                self.deadline = self._began + REQUEST_TIMEOUT
            elif self.deadline is None:
                self.deadline = self._limits.clock.seconds() + IDLE_TIMEOUT
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this request."""
        if self._half_closed and not self._waiting:
            return False
        return self._keep_alive and not self.no_keep_alive

    def forwarded_address(self, headers: Headers) -> str | None:
        """The client's address where a trusted proxy tells it."""
        return forwarded_address(headers) if self._limits.trust_proxy else None

    def write(self, chunk: bytes) -> None:
        """Send a part of the response."""
        self.fresh = False
        self.transport.write(chunk)

    def notifyFinish(self) -> Deferred[Any]:
        """A Deferred that fires when the present request is finished or its client gone."""
        if self._request is None:
            return Deferred()  # cyclone asks for it once more after the end
        return super().notifyFinish()

    def finish(self) -> None:
        """The response is complete: take the next request, or end the connection."""
        self._request = None
        finished = self._finish_callback
        self._finish_callback = None
        if finished is not None:
            finished.callback(None)
        if not self.keep_alive:
            self._close(IDLE_TIMEOUT)  # the response may be long, and its reader slow
        elif not self._running:
            self._limits.clock.callLater(0, self._run)

    def _refuse(self, refusal: Refusal) -> None:
        status = HTTPStatus(refusal.status)
        body = error_body(refusal.reason)
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

    def _close(self, timeout: float = REFUSAL_TIMEOUT) -> None:
        self._closing = True
        self._stop_reading()
        self.deadline = self._limits.clock.seconds() + timeout
        self.transport.loseConnection()

    def shut(self) -> None:
        """The server stops: finish the request under way, take no other."""
        if self._request is not None and self.deadline is None and self._reader is not None:
            self._keep_alive = False
            self._waiting = []
        elif not self._closing:
            self._close()

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._closing:
            self.transport.abortConnection()
        elif self._began is not None:
            self._refuse(Refusal(408, f"the request took more than {REQUEST_TIMEOUT:.0f} s"))
        else:
            self._close()
