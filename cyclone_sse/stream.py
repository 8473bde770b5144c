"""A stream of events to one client, or the answer to one long poll: from the request to its end."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyclone.sse import SSEHandler
from cyclone.web import HTTPError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.transport_client import client_class
from cyclone_sse.errors import Ending, Refusal
from cyclone_sse.http.handler import JsonHandler

_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # for nginx in front
}
_POLL = {name: _STREAM[name] for name in ("Content-Type", "Cache-Control")}
_VARY = ("X-Requested-With", "Last-Event-ID")  # what makes another answer of the same URL
_BEGINNING = b"\n\n"  # of each body, as it has always been
_LAST_CHUNK = b"0\r\n\r\n"
_NOTHING: Any = None


class ExtendedSSEHandler(JsonHandler, SSEHandler):  # type: ignore[misc]
    """A stream of events to one client; override ``admit``, ``bind`` and ``unbind``."""

    allowed = "GET, HEAD, OPTIONS"
    subscriber: Any = None  # the client (`delivery.client`), from when its stream opens
    user: str | None = None  # who it is, if access was granted to somebody
    expires: float | None = None  # when its access ends: seconds since the epoch
    _bound = False
    _gone = False
    _orders = 0  # to end streams, given before the client was checked
    _sink: Callable[[bytes], None] | None = None  # where sendEvent's bytes go: the client, or a list

    def __init__(self, application: Any, request: Any, **kwargs: Any) -> None:
        JsonHandler.__init__(self, application, request, **kwargs)
        self.transport = request.connection.transport
        self._auto_finish = False

    def admit(self) -> Deferred[Any] | None:
        """Called before the stream opens, which waits for the Deferred; raises (or fails with)
        a Refusal (or an HTTPError) to refuse the client."""

    def bind(self) -> None:
        """Called when the stream is open."""

    def unbind(self) -> None:
        """Called when the client has gone, if it was bound."""

    def last_event_id(self) -> str | None:
        """The id the client comes back with, if it does. The header is what a browser
        sends by itself (WHATWG HTML 9.2.4), the parameter is for everybody else."""
        header: str | None = self.request.headers.get("Last-Event-Id")
        return header or self.request.arguments.get("lastEventId", [None])[-1] or None

    def sendEvent(
        self,
        message: Any,
        event: str | None = None,
        eid: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Send one event to this client.

        message: text, UTF-8 bytes, or anything that goes into JSON. event: its type, if not
        ``message``. eid: its id. retry: milliseconds until the client reconnects. When a
        subclass overrides this, every event to the client comes through it, message as text.
        """
        if not isinstance(message, str | bytes):
            message = json.dumps(message)
        if self._sink is not None:
            self._sink(encode(message, eid, event, retry))

    def finish(self, chunk: Any = None) -> None:
        """End the response; an open stream when everything sent has gone out."""
        if self.subscriber is None or (self.subscriber.is_poll and not self._headers_written):
            super().finish(chunk)
        elif self.subscriber.is_poll:
            super().finish(_chunk(chunk or b"") + _LAST_CHUNK)
        else:
            self.subscriber.end(Ending.ENDED)

    def _execute(self, transforms: Any, *args: Any, **kwargs: Any) -> None:
        self._transforms = []
        if self.request.method == "OPTIONS":
            self.options()
        elif self.request.method not in ("GET", "HEAD"):
            self._handle_request_exception(HTTPError(405))
        else:
            self.request.notifyFinish().addBoth(self.on_connection_closed)
            self._admit()

    def _admit(self) -> None:
        # Mostly there is nothing to wait for; then there is no need for a Deferred, which at
        # ten thousand clients that all come at once is worth the lines.
        self._orders = self.broker.hub.end_orders
        try:
            self.request.connection.admit(self.request)
            waiting = self.admit()
            if waiting is None:
                self._begin()
            else:
                waiting.addCallback(self._begin).addErrback(self._failed)
        except Exception:
            self._failed(Failure())

    def _begin(self, _: object = None) -> None:
        if self._gone:
            return
        if self.request.method == "HEAD":
            self._only_head()
        else:
            self._open()
            self._bound = True
            try:
                self.bind()
            finally:
                # With what was missed, if there is something: that spares a write for each client.
                self.subscriber.open()
            self.broker.hub.end_if_ordered(self.subscriber, self._orders)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(HTTPError, Refusal):
            self.log.failure("a subscription failed", failure)
        if self.subscriber is not None:
            self.subscriber.end(Ending.ENDED)
        elif not self._gone:
            self._handle_request_exception(failure)

    def on_connection_closed(self, *args: Any, **kwargs: Any) -> None:
        """Let go of the client. Also called when a long poll has been answered."""
        self._gone = True
        if self.subscriber is not None:
            self.subscriber.lost()
        if self._bound:
            self._bound = False
            # Before `unbind`: a custom one that fails must leave nobody registered for ever.
            self.broker.remove_client(self)
            try:
                self.unbind()
            except Exception:
                self.log.failure("unbind failed")

    def _only_head(self) -> None:
        """Answer as to GET, but with nothing behind the head."""
        self._begin_head(_STREAM)
        self.flush()
        self.finish()

    def _open(self) -> None:
        """Make the client. Its head leaves with whatever `bind` has for it."""
        if self.request.headers.get("X-Requested-With") == "XMLHttpRequest":
            self._open_poll()
        else:
            self._open_stream()
        client: Client = self.subscriber
        client.user = self.user
        client.fields = "channel" in self.request.arguments.get("fields", ())
        client.shares_frames = not client.fields and not client.is_poll
        if type(self).sendEvent is not ExtendedSSEHandler.sendEvent:
            client.render, client.shares_frames = self._render, False
        if self.expires is not None:
            client.expires = self.broker.reactor.seconds() + self.expires - time.time()
        self._sink = client.send
        self._slim()

    def _begin_head(self, fields: Mapping[str, str]) -> str | None:
        """Give the answer these fields and, besides, where the client stands; returns the latter."""
        self._headers.update(fields)
        self.vary(*_VARY)
        position = self._position()
        if position:
            self._headers["Last-Event-ID"] = position
        return position

    def _open_stream(self) -> None:
        """Begin a stream; nothing else is read from the connection now."""
        settings = self.broker.settings
        position = self._begin_head(_STREAM)
        head = self._generate_headers() + _BEGINNING
        if settings["retry"]:
            # Each client another, so that they do not all come back in the same moment.
            head += b"retry: %d\n" % round(settings["retry"] * random.uniform(0.5, 1.5))
        if position and self._is_event_source():
            head += b"id: %s\n\n" % position.encode()
        connection = self.request.connection
        connection.setRawMode()
        self._headers_written = True
        kind = client_class(self.transport)
        self.subscriber = kind(self.transport, head, settings["client-buffer"], connection.fresh)

    def _open_poll(self) -> None:
        """Wait for what to answer."""
        self._begin_head(_POLL)
        self.request.connection.hold()
        self.subscriber = PollClient(
            self._begin_answer,
            self._answer,
            self.transport.abortConnection,
            self.broker.settings["poll-batch"],
        )

    def _begin_answer(self) -> None:
        """Send the head of an answer that is to come: it says where the client stands, so that one that
        is cut off meanwhile can ask on, and a browser does not hold back the same question of another tab."""
        if self.request.version == "HTTP/1.1":
            self.set_header("Transfer-Encoding", "chunked")
            self._headers_written = True
            self.request.write(self._generate_headers() + _chunk(_BEGINNING))

    def _answer(self, data: bytes) -> None:
        """Answer a long poll: an ordinary response, after which the connection is kept."""
        # Not in the midst of a walk over the clients: the next request may be there already.
        self.broker.reactor.callLater(0, self._answer_now, data)

    def _answer_now(self, data: bytes) -> None:
        if not self._gone:
            self.finish(data if self._headers_written else _BEGINNING + data)

    def _position(self) -> str | None:
        """Where the stream starts: the client's own id, if it is one, else this moment."""
        last = self.last_event_id()
        if last is None:
            return str(self.broker.position())
        return last if EventId.parse(last) else None

    def _is_event_source(self) -> bool:
        """Whether the client is a browser's EventSource (or one on the fetch of Node.js). It hides the
        header Last-Event-ID from its page, so that only an id in the stream lets it resume when it is
        cut off before its first event. Others are spared: httpx-sse 0.4 takes a lone id for an event."""
        headers = self.request.headers
        return "Sec-Fetch-Mode" in headers or "Mozilla/" in headers.get("User-Agent", "")

    def _render(self, events: Sequence[Event]) -> bytes:
        """The bytes that a subclass's sendEvent makes of these events."""
        rendered: list[bytes] = []
        self._sink = rendered.append
        try:
            for event in events:
                extra = {"event": event.type, "retry": event.retry}
                given: dict[str, Any] = {name: value for name, value in extra.items() if value is not None}
                self.sendEvent(event.message, eid=str(event.id), **given)
            return b"".join(rendered)
        finally:
            self._sink = self.subscriber.send

    def _slim(self) -> None:
        """Ten thousand idle clients need none of what cyclone builds for templates."""
        if not self.subscriber.is_poll:
            self.ui = self._headers = self._list_headers = self._write_buffer = _NOTHING


def _chunk(content: str | bytes) -> bytes:
    """A part of a body of unknown length (RFC 9112 7.1); none of nothing, which would end it."""
    data = content.encode() if isinstance(content, str) else content
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
