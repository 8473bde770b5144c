"""One stream of events, or the answer to one long poll, from the request to its end.

The client is counted and admitted, then its stream opens, and what it missed leaves with the head of its
answer. A subclass decides which clients are admitted, and what they receive.
"""

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

from cyclone_sse.access.grant import MAX_SECONDS, compact_info
from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.delivery.batch import lines_with_names
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import check_client_id
from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.delivery.transport_client import make_client
from cyclone_sse.errors import Ending, Refusal
from cyclone_sse.http.requests import Request

_STREAM = {
    "Content-Type": "text/event-stream",
    # Without no-transform, proxies that compress hold the events back.
    "Cache-Control": "no-cache, no-transform",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # for nginx in front
}
_POLL = {name: _STREAM[name] for name in ("Content-Type", "Cache-Control")}
_PRIVATE = "private, no-store, no-transform"  # where access was granted to this client alone
_VARY = ("X-Requested-With", "Last-Event-ID")  # headers on which the answer of a URL depends
_STREAM_FIELDS = (*_STREAM.items(), ("Vary", ", ".join(_VARY)))
_PRIVATE_FIELDS = (*_STREAM_FIELDS, ("Cache-Control", _PRIVATE))
_BEGINNING = b"\n\n"  # of each body, as it has always been
_LAST_CHUNK = b"0\r\n\r\n"
_NOTHING: Any = None


class ExtendedSSEHandler(BrokerHandler, SSEHandler):  # type: ignore[misc]
    """A stream of events to one client; override ``admit``, ``bind`` and ``unbind``."""

    allowed = "GET, HEAD, OPTIONS"
    subscriber: SocketClient | PollClient | None = None  # from when the stream opens
    user: str | None = None  # the client's, if access was granted to one
    info: object = None  # shown to other members of a channel: any JSON value
    expires: float | None = None  # when its access ends: seconds since the epoch
    is_private = False  # access was granted to this client, not to all
    _given_id: str | None = None  # the last event id of a client that reconnects
    _resume_id: EventId | str | None = None  # the same, parsed if it is an id
    _bound = False
    _gone = False
    _end_orders = 0  # given before the client was checked
    _sink: Callable[[bytes], None] | None = None  # where sendEvent's bytes go: the client, or a list

    def __init__(self, application: Any, request: Request, **kwargs: Any) -> None:
        BrokerHandler.__init__(self, application, request, **kwargs)
        self.transport = request.connection.transport
        self._auto_finish = False

    # What custom applications override and call.

    def admit(self) -> Deferred[Any] | None:
        """Called before the stream opens, which waits for the Deferred; raises (or fails with)
        a Refusal (or an HTTPError) to refuse the client."""

    def bind(self) -> None:
        """Called when the client is accepted; events that are sent here leave with the head of its answer."""

    def unbind(self) -> None:
        """Called when the client is gone, if it was bound."""

    def last_event_id(self) -> str | None:
        """The last event id of a client that reconnects. A browser sends the header by itself
        (WHATWG HTML 9.2.4); the parameter is for pages that set it."""
        header: str | None = self.request.headers.exact("Last-Event-Id")
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
        """End the response; an open stream ends when all waiting bytes have been sent."""
        client = self.subscriber
        if client is None or (client.is_poll and not self._headers_written):
            super().finish(chunk)
        elif client.is_poll:
            super().finish(_chunk(chunk or b"") + _LAST_CHUNK)
        else:
            client.end(Ending.ENDED)

    # From the request to the open stream.

    def _execute(self, transforms: Any, *args: Any, **kwargs: Any) -> None:
        self._transforms = []
        if self.request.method == "OPTIONS":
            self.options()
        elif self.request.method not in ("GET", "HEAD"):
            self._handle_request_exception(HTTPError(405))
        else:
            self.request.connection.on_done = self.on_connection_closed
            self._subscribe()

    def _subscribe(self) -> None:
        # Mostly there is nothing to wait for. Without a Deferred then, ten thousand clients that come at
        # once are served sooner.
        try:
            self._given_id = given = self.last_event_id()
            self._resume_id = (EventId.parse(given) or given) if given else None
            self._end_orders = self.broker.hub.end_orders.count
            self.request.connection.count_client(self.request)
            waiting = self.admit()
            if waiting is None:
                self._respond()
            else:
                # A client that leaves meanwhile is noticed at once, and nothing more is done for it.
                self.request.connection.end_on_half_close()
                waiting.addCallback(self._respond).addErrback(self._failed)
        except Exception:
            self._failed(Failure())

    def _respond(self, _: object = None) -> None:
        if self._gone:
            return
        is_poll, client_id = self._wants_poll(), self._client_id()
        if self.request.method == "HEAD":
            self._start_head(_POLL if is_poll else _STREAM)
            self.flush()
            self.finish()
            return
        client = self._open(is_poll, client_id)
        self._bound = True
        try:
            self.bind()
        finally:
            # Together with missed events, if there are any: that saves a write for each client.
            client.open()
        self.broker.hub.end_if_ordered(client, self._end_orders)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(HTTPError, Refusal):
            self.log.failure("a subscription failed", failure)
        if self.subscriber is not None:
            self.subscriber.end(Ending.ENDED)
        elif not self._gone:
            self._handle_request_exception(failure)

    def on_connection_closed(self, *args: Any, **kwargs: Any) -> None:
        """Unregister the client. Also called when a long poll has been answered."""
        self._gone = True
        if self.subscriber is not None:
            self.subscriber.lost()
        if self._bound:
            self._bound = False
            # Without this, a custom unbind that fails leaves the client registered forever.
            self.broker.remove_client(self)
            try:
                self.unbind()
            except Exception:
                self.log.failure("unbind failed")

    def _open(self, is_poll: bool, client_id: str | None) -> SocketClient | PollClient:
        """Make the client. Its head leaves with whatever `bind` has for it."""
        renews_id, wants_state = self._is_event_source(), self._wants_state()
        # Without an id of its own, a client with states gets its first id with them.
        sends_id = renews_id and not (wants_state and self._resume_id is None)
        client = self.subscriber = self._open_poll() if is_poll else self._open_stream(sends_id)
        arguments = self.request.arguments
        client.client_id = client_id
        client.user = None if self.user is None else str(self.user) or None
        client.address = self.request.remote_ip
        client.info = compact_info(self.info)
        client.wants_presence = not is_poll and "1" in arguments.get("presence", ())
        client.fields = "channel" in arguments.get("fields", ())
        client.renews_id, client.wants_state = renews_id, wants_state
        if type(self).sendEvent is not ExtendedSSEHandler.sendEvent:
            client.render, client.shares_frames = self._render, False
        if self.expires is not None:
            client.expires = min(self.expires, time.time() + MAX_SECONDS)
        self._sink = client.send
        if not is_poll:
            # Without this, ten thousand idle clients would keep what cyclone makes for templates.
            self.ui = self._own_fields = self._list_headers = self._write_buffer = _NOTHING
        return client

    def _wants_poll(self) -> bool:
        """Whether the client polls. Some EventSources, such as React Native's, send the header of those that
        poll: their pages request a stream with a parameter."""
        request = self.request
        if request.headers.exact("X-Requested-With") != "XMLHttpRequest":
            return False
        return bool(request.arguments.get("stream", [""])[-1] != "1")

    def _wants_state(self) -> bool:
        """Whether the client asks for the states of its channels."""
        return "1" in self.request.arguments.get("state", ())

    def _client_id(self) -> str | None:
        """The id by which publications can exclude this client. Raises Refusal."""
        given = self.request.arguments.get("client")
        try:
            if given:
                check_client_id(given[-1], "client")
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        return given[-1] if given else None

    def _start_head(self, fields: Mapping[str, str]) -> str | None:
        """Set these fields of the answer, and the position of the client, which is returned."""
        self._headers.update(fields)
        if self.is_private:
            self._headers["Cache-Control"] = _PRIVATE
        position = self._position()
        if position:
            self._headers["Last-Event-ID"] = position
        self.vary(*_VARY)
        return position

    def _position(self) -> str | None:
        """The id where the stream starts: the client's own, if it is one, else that of this moment."""
        if self._resume_id is None:
            return self.broker.position()
        return self._given_id if isinstance(self._resume_id, EventId) else None

    def _open_stream(self, sends_id: bool) -> SocketClient:
        """Start a stream; nothing else is read from the connection now. sends_id: begin with the position."""
        settings = self.broker.settings
        if self._shares_head:
            position = self._position()
            line = f"Last-Event-ID: {position}\r\n\r\n" if position else "\r\n"
            head = self._shared_head(_PRIVATE_FIELDS if self.is_private else _STREAM_FIELDS) + line.encode()
        else:
            position = self._start_head(_STREAM)
            head = self._generate_headers()
        head += _BEGINNING
        if settings["retry"]:
            # A time of its own for each client: without this, all would reconnect at the same moment.
            head += b"retry: %d\n" % round(settings["retry"] * random.uniform(0.5, 1.5))
        if position and sends_id:
            head += f"id: {position}\n\n".encode()
        connection = self.request.connection
        socket, nothing_waits = connection.socket, connection.nothing_waits
        connection.setRawMode()
        self._headers_written = True
        return make_client(self.transport, head, settings["client-buffer"], socket, nothing_waits)

    def _is_event_source(self) -> bool:
        """Whether the client is a browser's EventSource (or one on the fetch of Node.js). It hides the
        header Last-Event-ID from its page, so that only an id in the stream lets it resume when it is
        cut off before its first event. Others are spared: httpx-sse 0.4 takes a lone id for an event."""
        headers = self.request.headers
        return headers.exact("Sec-Fetch-Mode") is not None or "Mozilla/" in headers.exact("User-Agent", "")

    def _render(self, events: Sequence[Event]) -> bytes:
        """The bytes that a subclass's sendEvent makes of these events."""
        rendered: list[bytes] = []
        sink, self._sink = self._sink, rendered.append
        try:
            for event in events:
                extra = {"event": event.type, "retry": event.retry}
                given: dict[str, Any] = {name: value for name, value in extra.items() if value is not None}
                before = len(rendered)
                self.sendEvent(event.message, eid=event.shown_id, **given)
                if self.subscriber is not None and self.subscriber.fields:
                    names = lines_with_names(event, self.subscriber.channels)
                    rendered[before:] = [names + each for each in rendered[before:]]
            return b"".join(rendered)
        finally:
            self._sink = sink

    # Long polls.

    def _open_poll(self) -> PollClient:
        """Wait for an event to answer with."""
        self._start_head(_POLL)
        self.request.connection.end_on_half_close()
        return PollClient(
            self._start_answer,
            self._answer_later,
            self.transport.abortConnection,
            self.broker.settings["poll-batch"],
        )

    def _start_answer(self) -> None:
        """Send the head of the answer before there is an event.

        It has the client's position, so that one that is cut off meanwhile can resume. Without this, a
        browser would delay the same request of another tab.
        """
        if self.request.version == "HTTP/1.1":
            self.set_header("Transfer-Encoding", "chunked")
            self._headers_written = True
            self.request.write(self._generate_headers() + _chunk(_BEGINNING))

    def _answer_later(self, data: bytes) -> None:
        """Answer a long poll: an ordinary response, after which the connection is kept."""
        # Not in the midst of a walk over the clients: the next request may be there already.
        self.broker.reactor.callLater(0, self._answer, data)

    def _answer(self, data: bytes) -> None:
        if not self._gone:
            self.finish(data if self._headers_written else _BEGINNING + data)


def _chunk(content: str | bytes) -> bytes:
    """A part of a body of unknown length (RFC 9112 7.1); nothing for no content, which would end it."""
    data = content.encode() if isinstance(content, str) else content
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
