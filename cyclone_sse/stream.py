"""A stream of events to one client, from the request to its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cyclone.sse import SSEHandler
from cyclone.web import HTTPError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.subscriber import BUFFER, Subscriber, subscriber_for
from cyclone_sse.errors import Refusal
from cyclone_sse.http.responses import JsonHandler

_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # for nginx in front
}
_NOTHING: Any = None


class ExtendedSSEHandler(JsonHandler, SSEHandler):  # type: ignore[misc]
    """A stream of events to one client; override ``admit``, ``bind`` and ``unbind``."""

    allowed = "GET, OPTIONS"
    subscriber: Subscriber | None = None  # the client's stream, from `open` on
    _bound = False
    _gone = False
    _rendered: list[bytes] | None = None  # where sendEvent's bytes go instead of to the client

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
        data = encode(message, eid, event, retry)
        if self._rendered is not None:
            self._rendered.append(data)
        elif self.subscriber is not None:
            self.subscriber.send(data)

    def finish(self, chunk: Any = None) -> None:
        """End the response; an open stream when everything sent has gone out."""
        if self.subscriber is None:
            super().finish(chunk)
        else:
            self.subscriber.close()

    def _execute(self, transforms: Any, *args: Any, **kwargs: Any) -> None:
        self._transforms = []
        if self.request.method == "OPTIONS":
            self.options()
        elif self.request.method != "GET":
            self._handle_request_exception(HTTPError(405))
        else:
            self.request.notifyFinish().addBoth(self.on_connection_closed)
            self._admit()

    def _admit(self) -> None:
        # Mostly there is nothing to wait for; then there is no need for a Deferred, which at
        # ten thousand clients that all come at once is worth the lines.
        try:
            waiting = self.admit()
            if waiting is None:
                self._begin()
            else:
                waiting.addCallback(self._begin).addErrback(self._failed)
        except Exception:
            self._failed(Failure())

    def _begin(self, _: object = None) -> None:
        if not self._gone:
            self._open()
            self._bound = True
            self.bind()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(HTTPError, Refusal):
            self.log.failure("a subscription failed", failure)
        if self.subscriber is not None:
            self.subscriber.close()
        elif not self._gone:
            self._handle_request_exception(failure)

    def on_connection_closed(self, *args: Any, **kwargs: Any) -> None:
        """Let go of the client."""
        self._gone = True
        if self.subscriber is not None:
            self.subscriber.lost()
        if self._bound:
            self._bound = False
            self.unbind()

    def _open(self) -> None:
        """Send the head of the stream; nothing else is read from the connection now."""
        once = self.request.headers.get("X-Requested-With") == "XMLHttpRequest"
        settings = self.broker.settings
        self._headers.update(_STREAM)
        if once:
            self.set_header("Connection", "close")
        position = self._position()
        if position:
            self._headers["Last-Event-ID"] = position  # what long polling starts from
        head = self._generate_headers() + b"\n\n"
        if settings.get("retry"):
            head += b"retry: %d\n" % settings["retry"]
        if position and not once and self._is_event_source():
            head += b"id: %s\n\n" % position.encode()
        connection = self.request.connection
        connection.setRawMode()
        self._headers_written = True
        kind = subscriber_for(self.transport)
        limit = settings.get("client-buffer", BUFFER)
        self.subscriber = kind(self.transport, head, limit, connection.fresh)
        own_way = type(self).sendEvent is not ExtendedSSEHandler.sendEvent
        self.subscriber.adapt(once, self._render if own_way else None)
        self._slim()

    def _position(self) -> str | None:
        """Where the stream starts: the client's own id, if it is one, else this moment."""
        last = self.last_event_id()
        if last is None:
            return self.broker.position()
        return last if EventId.parse(last) else None

    def _is_event_source(self) -> bool:
        """Whether the client is a browser's EventSource (or one on the fetch of Node.js). It hides the
        header Last-Event-ID from its page, so that only an id in the stream lets it resume when it is
        cut off before its first event. Others are spared: httpx-sse 0.4 takes a lone id for an event."""
        headers = self.request.headers
        return "Sec-Fetch-Mode" in headers or "Mozilla/" in headers.get("User-Agent", "")

    def _render(self, events: Sequence[Event]) -> bytes:
        """The bytes that a subclass's sendEvent makes of these events."""
        self._rendered = []
        try:
            for event in events:
                self.sendEvent(event.message, eid=str(event.id))
            return b"".join(self._rendered)
        finally:
            self._rendered = None

    def _slim(self) -> None:
        """Ten thousand idle clients need none of what cyclone builds for templates."""
        self.ui = self._headers = self._list_headers = self._write_buffer = _NOTHING
