"""One HTTP connection: strict, limited and timed, in place of cyclone's.

cyclone 1.3 hangs on a negative Content-Length, treats a chunked body as the next request, and has no limits.
In this class the request reader reads the requests, and cyclone's handlers receive only complete and valid
ones. The states of a connection:

    READING     waits for a request, or for the rest of one
    ANSWERING   a handler has a request; a few bytes that arrive meanwhile wait, and no more are read
    STREAMING   a handler uses the connection for a stream; bytes from the client are dropped
    CLOSING     no request is read or answered; written bytes are still sent

    READING -> ANSWERING   the request is complete       ANSWERING -> READING    the answer is complete
    ANSWERING -> STREAMING setRawMode                    any -> CLOSING          refused, ended, or lost

Invariants: a refused request is answered with its status and a reason, and then the connection is closed; a
request must be complete in a limited time; pipelined requests are answered one after another, and only while
the client reads the answers.

Knows nothing of channels or events: an application's handlers use this class like cyclone's, which it
replaces as ``Application.protocol``.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from cyclone.httpserver import HTTPConnection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyclone_sse.direct_socket import DirectSocket
from cyclone_sse.errors import Refusal
from cyclone_sse.http.body_budget import SMALL, BodyMemory
from cyclone_sse.http.flow_control import FlowControl
from cyclone_sse.http.request_reader import RequestReader
from cyclone_sse.http.requests import Request, takes_body
from cyclone_sse.http.responses import refusal_answer, server_options
from cyclone_sse.http.server_state import ServerState, host_of_peer, network_of_peer
from cyclone_sse.http.target import ASTERISK

REQUEST_TIMEOUT = 10.0  # seconds from a request's first byte to its last
BODY_WAIT = 60.0  # seconds for a body to wait until there is room for it
REFUSAL_TIMEOUT = 5.0  # seconds for a refused client to read the reason
ANSWERS_AT_ONCE = 20  # pipelined requests answered before the reactor gets a turn


class ConnectionState(enum.Enum):
    """The states of a connection, as drawn above."""

    READING = enum.auto()
    ANSWERING = enum.auto()
    STREAMING = enum.auto()
    CLOSING = enum.auto()


READING, ANSWERING, STREAMING, CLOSING = ConnectionState


@implementer(IHalfCloseableProtocol)
class Connection(HTTPConnection):  # type: ignore[misc]
    """One connection of a client; the application, as Twisted's factory, makes it."""

    log = Logger()

    # On the class: most connections never change them.
    no_keep_alive = False
    _request: Request | None = None  # that is being answered
    _finish_callback: Deferred[Any] | None = None
    on_done: Callable[[], object] | None = None  # called when the request is answered, or its client gone
    _client_network: str | None = None  # under which it is counted, while it is a client
    _half_closed = False  # the client sends no more
    _ends_on_half_close = False  # the answer may take long
    _keep_alive = True
    _body_left = False  # the client may still be sending a body, which is not read
    _in_run = False
    _began: float | None = None  # when the first byte of the request arrived that is being read
    _memory = BodyMemory.NONE  # for the body that is being read
    quiet_since = 0.0  # when the server began to wait for the client

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self._reader: RequestReader | None = None  # None: nothing more is read
        self.state = READING

    # The transport calls these.

    def connectionMade(self) -> None:
        """Start reading requests."""
        self.server.add(self)
        self.server.set_deadline(self, REQUEST_TIMEOUT)
        self._reader = RequestReader(self.server.max_body)
        self._flow = FlowControl(self.transport, self.server.unread)

    def dataReceived(self, data: bytes) -> None:
        """Read these bytes, and answer the requests that they complete."""
        if self._reader is None:
            self.rawDataReceived(data)
            return
        self._reader.buffer += data
        self._run_soon()

    def rawDataReceived(self, data: bytes) -> None:
        """Drop bytes from a subscriber; a websocket handler replaces this method."""

    def setRawMode(self) -> None:
        """Stop reading requests: a handler uses the connection for a stream."""
        self.state = STREAMING
        self._reader = None
        self._flow.release()
        self._flow.resume()  # without this, a request that was pipelined would not notice its client leave
        if self._half_closed:
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """Note that a client sends no more. It may await an answer (RFC 9112 9.6); a subscriber is gone."""
        self._half_closed = True
        if self.state is STREAMING or self._ends_on_half_close:
            self.transport.abortConnection()
        elif self.state is READING:
            self._run_soon()
        elif self.state is CLOSING:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Wait for the client to close its side too: the answer to a refused request has been sent."""

    def connectionLost(self, reason: Failure) -> None:
        """Notify the handler that the client is gone."""
        self.state = CLOSING
        self._reader = None
        self.server.discard(self)
        self._release()
        self._flow.lost()
        self._notify_done()
        # Break the reference cycle: both are freed now, not at the next full collection.
        self._request = None

    # The requests, one after the other.

    def _run_soon(self) -> None:
        """Answer the requests that have been read: now if this turn has time for it, else in another turn."""
        if self.state is READING and self.server.runs.acquire():
            self._run()
            return
        if self.state is READING:
            self.server.runs.add(self._run)
        self._limit_pipelined()

    def _limit_pipelined(self) -> None:
        """Read no more if much waits behind a request. If its answer may take long, drop what waits, and all
        that follows: without reading, the end of the client would go unnoticed.
        """
        is_much = self._reader is not None and len(self._reader.buffer) > SMALL
        if self._ends_on_half_close:
            self._flow.resume()
            if is_much:
                self._reader, self._keep_alive, self._body_left = None, False, True
        elif is_much:  # pausing for each pipelined request would cost too much
            self._flow.pause()

    def _run(self) -> None:
        """Answer the requests that have been read, as long as the client reads the answers."""
        if self._in_run or self.state is not READING:
            return
        self._in_run = True
        runs = self.server.runs
        answered, is_over, is_enough = 0, False, False  # is_over: nothing of another request has come
        try:
            while self.state is READING and not self._flow.full and self._next():
                answered += 1
                runs.note_run()
                is_over = self._reader is None or not self._reader.buffer
                is_enough = answered == ANSWERS_AT_ONCE or not (is_over or runs.acquire())
                if is_over or is_enough:
                    break
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:
            # Raised by a custom application's handler outside of cyclone's own error handling.
            self.log.failure("a request failed")
            if self.state is ANSWERING:
                self.refuse(Refusal(500, "Internal Server Error"))
        if self._flow.corked is not None:
            self._flow.uncork(self._run_soon)
        self._in_run = False
        if self.state is READING and not is_enough:
            self._wait(is_over)
        elif self.state is not CLOSING:
            # Only now: most requests are answered by now, and the deadline of the next is set instead.
            self.server.clear_deadline(self)
            if self.state is READING:
                self._flow.pause()
                runs.add(self._run)

    def _next(self) -> bool:
        """Answer the next request, if it is complete. Raises Refusal."""
        reader = self._reader
        assert reader is not None
        found = reader.pop_request(partial(takes_body, self.factory))
        if found is None:
            if reader.pop_continue():
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        head, body = found
        if reader.buffer and not reader.is_over:
            self._flow.cork()  # the answers to pipelined requests
        self._request = request = Request(self, head, body)
        self._keep_alive = head.keep_alive
        if reader.is_over:
            self._keep_alive, self._body_left = False, True
            self._reader = None
        self.state, self._began = ANSWERING, None
        if head.path == ASTERISK:
            self.write(server_options(self.server.cors.headers(request.headers.exact("Origin"))))
            self.finish()
        else:
            self.factory(request)
        return True

    def _wait(self, is_over: bool) -> None:
        """Wait for the next request, or the rest of this one, until the deadline."""
        reader = self._reader
        assert reader is not None
        if self._flow.full:
            self._flow.pause()
            self.server.set_deadline(self, self.server.idle_timeout)
        elif not is_over and reader.stopped_early:
            self._flow.pause()
            self.server.runs.add(self._run)
        elif self._half_closed:
            self._close()
        elif is_over or not reader.in_request:
            self._began = None  # empty lines before a request are none
            self._flow.resume()
            self.server.set_deadline(self, self.server.idle_timeout)
        elif reader.body_size > SMALL and not self._reserve(reader.body_size):
            self._flow.pause()
        else:
            self._flow.resume()
            self._limit_time()

    def _reserve(self, size: int) -> bool:
        """Whether there is memory for the body; if not, `continue_body` is called later."""
        if self._memory is BodyMemory.NONE:
            self._memory = self.server.bodies.reserve(self, network_of_peer(self), size)
            if self._memory is BodyMemory.AWAITED:
                self.server.set_deadline(self, BODY_WAIT)
        return self._memory is BodyMemory.RESERVED

    def continue_body(self) -> None:
        """Read the rest of the body: there is memory for it now."""
        self._memory = BodyMemory.RESERVED
        self._began = None
        self.server.runs.add(self._run)

    def _limit_time(self) -> None:
        """Start the timeout of the request, unless it has been started."""
        if self._began is None:
            self._began = self.server.clock.seconds()
            self.server.set_deadline(self, REQUEST_TIMEOUT)

    # Handlers call these.

    @property
    def _remote_ip(self) -> str:
        """The address of the peer; ``unix:`` and the path (bytes in Twisted) for a UNIX socket."""
        return host_of_peer(self.transport) or f"unix:{os.fsdecode(self.transport.getHost().name)}"

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this request."""
        is_last = self.server.ending or self.no_keep_alive or not self._keep_alive
        return self.state is ANSWERING and not is_last

    def count_client(self, request: Request) -> None:
        """Count this as a client until the request is answered, or the connection gone. Raises Refusal."""
        if self._client_network is None:
            self._client_network = self.server.count_client(request)

    def end_on_half_close(self) -> None:
        """Treat a client that closes its side as gone from now on: the answer may take long."""
        self._ends_on_half_close = True
        self._limit_pipelined()
        if self._half_closed:
            self.transport.abortConnection()

    @property
    def nothing_waits(self) -> bool:
        """Whether all that was written has been sent, so that a stream may write to the socket."""
        return self._flow.nothing_waits and not self._flow.corked

    @property
    def socket(self) -> DirectSocket | None:
        """The socket, for bytes that are to be sent at once; None if the transport has none."""
        return self._flow.socket

    def write(self, chunk: bytes) -> None:
        """Send a part of the response."""
        self._flow.write(chunk, self._run_soon if self.state is ANSWERING else None)

    def notifyFinish(self) -> Deferred[Any]:
        """A Deferred that fires when the present request is finished, or its client is gone."""
        if self._request is None:
            return Deferred()  # cyclone asks for it once more after the end
        if self._finish_callback is None:
            self._finish_callback = Deferred()
        return self._finish_callback

    def _notify_done(self) -> None:
        on_done, self.on_done = self.on_done, None
        if on_done is not None:
            try:
                on_done()
            except Exception:
                # Without this, a handler that fails keeps its connection from being released.
                self.log.failure("a handler failed at the end of its request")
        finished, self._finish_callback = self._finish_callback, None
        if finished is not None:
            finished.callback(None)

    def finish(self) -> None:
        """End the response: read the next request, or close the connection."""
        keep_alive = self.keep_alive
        self._request, self._ends_on_half_close = None, False
        self._release()
        self._notify_done()
        if self.state is CLOSING:
            return
        if not keep_alive:
            # The response may be long, and its reader slow.
            self._close(REFUSAL_TIMEOUT if self._body_left else self.server.idle_timeout)
            return
        self.state = READING
        assert self._reader is not None
        if not self._in_run and self._reader.buffer:
            self.server.runs.add(self._run)
        elif not self._in_run:
            self._wait(is_over=True)

    def _release(self) -> None:
        """Release the client and the memory that were counted for the request."""
        if self._client_network is not None:
            self.server.release_client(self._client_network)
            self._client_network = None
        if self._memory is not BodyMemory.NONE:
            self._memory = BodyMemory.NONE
            self.server.bodies.release(self, network_of_peer(self))

    # The end.

    def refuse(self, refusal: Refusal) -> None:
        """Answer with the reason, and read nothing more."""
        self.server.refusals[refusal.status] += 1
        request = self._request or (self._reader and self._reader.head)
        origin = request.headers.exact("Origin") if request else None
        self._request = None
        self.write(refusal_answer(refusal, self.server.cors.headers(origin)))
        self._body_left = True
        self._close()
        self._release()

    def _close(self, timeout: float = REFUSAL_TIMEOUT) -> None:
        """Close the connection when all bytes are sent, at the latest after this time in seconds."""
        self.state = CLOSING
        self._reader = None
        self._flow.release()
        self._flow.resume()
        self.server.set_deadline(self, timeout)
        if self._body_left and hasattr(type(self.transport), "loseWriteConnection"):
            # A client that is still sending must be able to read this: closing the socket with
            # bytes unread would reset the connection (RFC 9112 9.6).
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def shut(self) -> None:
        """Finish the request under way, and accept no other, since the server stops."""
        if self.state is ANSWERING:
            self._keep_alive = False
        elif self.state is not CLOSING:
            self._close()

    def time_out(self) -> None:
        """Close the connection, whose deadline has passed."""
        if self.state is CLOSING:
            self.transport.abortConnection()
        elif self._memory is BodyMemory.AWAITED:
            self.refuse(Refusal(503, "there are too many large bodies under way", {"Retry-After": "10"}))
        elif self._began is not None:
            self.refuse(Refusal(408, f"the request took more than {REQUEST_TIMEOUT:.0f} s"))
        else:
            self._close()
