"""``subscribe``: the events of channels as an iterator, which reconnects and resumes after the last event."""

from __future__ import annotations

import http.client
import logging
import os
import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Self
from urllib.parse import urlencode

from cyclone_sse_client.calls import Call
from cyclone_sse_client.connections import Connections
from cyclone_sse_client.errors import CycloneSSEError, Refused, Unavailable
from cyclone_sse_client.eventstream import Event, Parser

SILENCE = 75.0  # seconds without a byte after which the connection counts as lost: the server pings every 30 s
CONNECT_TIMEOUT = 10.0  # seconds for a connection, and for its TLS handshake
FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 30.0  # seconds
# Bounds in seconds of what the server asks for. Without the first, `retry: 0` would connect thousands of times
# a second while the server is away; without the second, a large number would be an error.
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 3600.0

Token = str | Callable[[], str]

logger = logging.getLogger(__name__)


def subscribe(
    url: str,
    channels: str | Iterable[str],
    *,
    last_event_id: str = "",
    token: Token | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    silence: float = SILENCE,
    context: ssl.SSLContext | None = None,
) -> Subscription:
    """Subscribe to one channel or several: ``for event in subscribe(url, "news"): ..``.

    The iterator never ends by itself: it reconnects, and resumes after the last event. If the server no
    longer has all missed events, it sends an event ``sse-gap``. If it refuses the subscription, ``Refused`` is
    raised.

    ``last_event_id``: the stream starts after this event, or with ``earliest`` at the oldest one that the
    server keeps. ``token``: a text, or a function that is called for each connection, and again after an
    ``OSError``. ``query``: further parameters, such as ``{"state": "1"}``.
    """
    names = [channels] if isinstance(channels, str) else list(channels)
    parameters = [("channels", name) for name in names] + list((query or {}).items())
    target = f"/?{urlencode([*parameters, ('fields', 'channel')])}"
    connections = Connections(url, context)
    return Subscription(
        connections,
        target,
        last_event_id=last_event_id,
        token=token,
        headers=dict(headers or {}),
        silence=silence,
        wants_state=str((query or {}).get("state")) == "1",
    )


class Subscription:
    """An iterator over the events of a subscription. ``close`` ends it, even from another thread."""

    def __init__(
        self,
        connections: Connections,
        target: str,
        *,
        last_event_id: str,
        token: Token | None,
        headers: dict[str, str],
        silence: float,
        wants_state: bool = False,
    ) -> None:
        self.last_event_id = last_event_id
        self._connections = connections
        self._target = connections.prefix + target
        self._token = token
        self._headers = {"Accept": "text/event-stream", **headers}
        self._silence = silence
        self._wants_state = wants_state
        self._events: deque[Event] = deque()
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None  # the connection's, until the response owns it
        self._process = os.getpid()  # that opened them
        self._parser = Parser(last_event_id)
        self._failures = 0
        self._retry = FIRST_PAUSE
        self._closed = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._events:
            if self._closed.is_set():
                self._drop()
                raise StopIteration
            try:
                self._read()
            except Unavailable as failure:
                self._drop()
                self._wait(failure)
            except BaseException:
                self._drop()
                raise
        event = self._events.popleft()
        self.last_event_id = event.id
        return event

    def close(self) -> None:
        """End the subscription, and the iterator, even if another thread waits in it."""
        self._closed.set()
        open_socket = self._socket
        # Without the second condition, a child process would end the stream of its parent.
        if open_socket is not None and self._process == os.getpid():
            with suppress(OSError):  # the server has already closed the connection
                open_socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._drop()

    def _read(self) -> None:
        """Read once from the stream, after opening it if necessary."""
        if self._process != os.getpid():  # after a fork the stream is the parent's, which reads it too
            self._drop()
            self._process = os.getpid()
        try:
            response = self._response or self._open()
            received = response.read1(65536)
        except (OSError, http.client.HTTPException) as error:
            lost = "the stream was lost" if self._response else f"no answer from {self._connections.server}"
            raise Unavailable(f"{lost}: {error}") from error
        except ValueError as error:
            # Without this check, a mistake in the token function would be repeated forever.
            if not self._closed.is_set():
                raise
            raise Unavailable("another thread has closed what was being read") from error
        if not received:
            raise Unavailable("the server ended the stream")
        self._failures = 0
        self._events += self._parser.feed(received)
        if self._parser.retry is not None:
            self._retry = min(max(self._parser.retry, 1000 * SHORTEST_WAIT), 1000 * LONGEST_WAIT) / 1000

    def _open(self) -> http.client.HTTPResponse:
        headers = dict(self._headers)
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id.encode().decode("latin-1")
        if self._token is not None:
            token = self._token if isinstance(self._token, str) else self._token()
            headers["Authorization"] = f"Bearer {token}"
        # Not in the time of a silence. Without this, close() could wait for more than a minute.
        self._connection = self._connections.open(min(CONNECT_TIMEOUT, self._silence))
        self._connection.connect()
        self._connection.sock.settimeout(self._silence)
        try:
            self._connection.request("GET", self._target, headers=headers)
        except ValueError:
            # Without this, the iterator would try forever. The text of the error would show the token.
            reason = "a header (such as the token) has a line break, or another character that cannot be sent"
            raise CycloneSSEError(reason) from None
        self._socket = self._connection.sock
        if self._closed.is_set():  # by another thread, before there was a socket to shut down
            raise Unavailable("the subscription was closed")
        # Without assigning it first, a response that is refused below would not be closed.
        response = self._response = self._connection.getresponse()
        kind = response.getheader("Content-Type", "").partition(";")[0]
        if response.status == 200 and kind == "text/event-stream":
            # Without the position of the stream's start, events before the first received one could be lost.
            # With states it comes behind them: without this, states could be lost when the stream breaks.
            start = "" if self._wants_state else response.getheader("Last-Event-ID", "")
            self._parser = Parser(self._parser.last_id or start)
            return response
        if response.status == 204:
            raise Refused("the server has nothing for this subscription", 204)
        self._refuse(response)
        raise Unavailable(f"this is not a stream, but {kind or 'nothing'}", response.status)

    def _refuse(self, response: http.client.HTTPResponse) -> None:
        """Raise the exception for this answer; after one 401 a token function is called again."""
        fields = {name.lower(): value for name, value in response.getheaders()}
        call: Call[None] = Call("GET", self._target, lambda answer: None, {})
        try:
            call.result(response.status, fields, response.read(65536))
        except Refused:
            if response.status != 401 or not callable(self._token) or self._failures:
                raise
            raise Unavailable("the token was refused", 401, retry_after=0) from None
        except Unavailable:
            raise
        except CycloneSSEError as error:
            raise Unavailable(error.reason, error.status) from None

    def _wait(self, failure: Unavailable) -> None:
        """Wait before the next connection: growing and random, so that not all clients reconnect at once."""
        pause = min(self._retry * 2**self._failures, LONGEST_PAUSE) * random.uniform(0.5, 1.5)
        if failure.status == 401:
            pause = 0.0  # with another token
        elif failure.retry_after is not None:
            pause = max(pause, min(failure.retry_after, LONGEST_WAIT))
        if self._failures == 1:  # once for each outage, and not when a server restarts
            logger.warning("no stream, trying again: %s", failure.reason)
        self._failures = min(self._failures + 1, 10)
        self._closed.wait(pause)

    def _drop(self) -> None:
        response, connection = self._response, self._connection
        self._response = self._connection = self._socket = None
        if response is not None:
            response.close()
        if connection is not None:
            connection.close()
