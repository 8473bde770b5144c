"""Subscribe, publish, stats: what a request to the server does.

These are the classes that custom applications subclass; what may be overridden is said at each
method. They adapt HTTP to the broker and hold no state beyond their request.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from itertools import chain
from typing import Any

from cyclone.sse import SSEHandler
from cyclone.web import ErrorHandler, HTTPError, RequestHandler, StaticFileHandler
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers import Broker, BrokerUnavailable
from cyclone_sse.events import Event, EventId, encode
from cyclone_sse.requests import NO_HEADERS
from cyclone_sse.subscriber import BUFFER, Subscriber, subscriber_for

_EVERY_RESPONSE = {
    "Server": "cyclone-sse",
    "Content-Type": "application/json",
    "Access-Control-Expose-Headers": "Last-Event-ID",
}
_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # for nginx in front
}
_NOTHING: Any = None
_TAKEN = b'{"status": "ok"}'
_PREFLIGHT_AGE = 86400  # seconds a browser may remember the answer to OPTIONS
_REQUEST_HEADERS = "Cache-Control, Content-Type, Last-Event-ID, X-Requested-With"


class Refusal(HTTPError):  # type: ignore[misc]
    """The request is refused; unlike HTTPError's, the text is told to the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.text = text


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
        self.ui: Any = None
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
        refusal = kwargs.get("exception")
        reason = refusal.text if isinstance(refusal, Refusal) else self._reason
        self.finish({"status": "error", "reason": reason})


class NotFoundHandler(JsonHandler, ErrorHandler):  # type: ignore[misc]
    """Every path that leads nowhere."""


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
        an HTTPError to refuse the client."""

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
        if not failure.check(HTTPError):
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
            self.set_header("Last-Event-ID", position)  # what long polling starts from
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


class BroadcastHandler(ExtendedSSEHandler):
    """Subscribe: ``GET /?channels=a&channels=b``.

    Override ``get_channels`` and ``authorize`` to decide what a client may hear, ``bind`` and
    ``unbind`` (call these) to be told of clients, ``sendEvent`` to change what they get.
    """

    channels: Sequence[str] = ()

    def get_channels(self) -> Iterable[str]:
        """The channels the client is to hear; none refuses it with 400."""
        return self.request.arguments.get("channels", [])  # type: ignore[no-any-return]

    def authorize(self) -> bool | Deferred[bool]:
        """Whether the client may; False refuses it with 401, an HTTPError with its status."""
        return True

    def admit(self) -> Deferred[Any] | None:
        """Refuse the client, or wait until its channels can be heard."""
        self.channels = list(dict.fromkeys(name for name in self.get_channels() if name))
        if not self.channels:
            raise Refusal(400, "name at least one channel: ?channels=...")
        allowed = self.authorize()
        if isinstance(allowed, bool):
            return self._authorized(allowed)
        return maybeDeferred(lambda: allowed).addCallback(self._authorized)

    def _authorized(self, allowed: object) -> Deferred[Any] | None:
        if not allowed:
            raise Refusal(401, "not authorized")
        return None if self._gone else self.broker.ready(self.channels)

    def bind(self) -> None:
        """Let the client hear its channels, first what it missed."""
        self._tell("{ip} subscribes to {channels}")
        self.broker.add_client(self, self.channels)
        self.broker.attach(self, self.last_event_id())
        assert self.subscriber is not None  # it is there when the stream is open
        self.channels = self.subscriber.channels  # the same names for all who hear them
        self.request.headers = NO_HEADERS  # nobody needs them from here on

    def unbind(self) -> None:
        """The client is gone."""
        self.broker.remove_client(self)
        self._tell("{ip} has left {channels}")

    def _tell(self, what: str) -> None:
        if self.broker.settings.get("log-level") == "debug":
            self.log.debug(what, ip=self.request.remote_ip, channels=self.channels)


class PublishHandler(JsonHandler):
    """Publish: ``POST /publish`` with ``channel`` (one or more), ``message`` and ``key``, as a
    form or as JSON. Override ``post``; it may call ``self.broker.publish(channels, message)``."""

    allowed = "POST, OPTIONS"

    @property
    def secret_key(self) -> str:
        """What a publisher must send as ``key``; empty: nothing."""
        return self.broker.secret_key

    def post(self) -> Deferred[None]:
        """Hand the message to the broker, and answer when it has been taken."""
        fields = self._json() if self._is_json() else self.request.arguments
        key = fields.get("key", [""])[-1]
        if self.secret_key and not _same(key, self.secret_key):
            raise Refusal(401, "wrong key")
        channels = list(dict.fromkeys(name for name in fields.get("channel", []) if name))
        if not channels:
            raise Refusal(400, "channel is missing")
        message = fields.get("message", [""])[-1]
        if not message:
            raise Refusal(400, "message is missing")
        d = maybeDeferred(self.broker.publish, channels, message)
        return d.addCallbacks(self._taken, self._not_taken)

    def _taken(self, _: object) -> None:
        self.finish(_TAKEN)

    def _not_taken(self, failure: Failure) -> None:
        failure.trap(BrokerUnavailable)
        raise Refusal(503, str(failure.value))

    def _is_json(self) -> bool:
        kind: str = self.request.headers.get("Content-Type", "")
        return kind.partition(";")[0].strip().lower() == "application/json"

    def _json(self) -> dict[str, list[str]]:
        """The fields of a JSON body in the shape of a form's."""
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refusal(400, "the body is not a JSON object")
        channel = body.get("channel", [])
        fields = {
            "key": [body.get("key", "")],
            "channel": channel if isinstance(channel, list) else [channel],
            "message": [body.get("message", "")],
        }
        for name, values in fields.items():
            if not all(isinstance(value, str) for value in values):
                raise Refusal(400, f"{name} is not text")
        return fields


class StatsHandler(JsonHandler):
    """Stats: ``GET /stats``, how many subscribers each channel has. Override ``get_stats``."""

    def get_stats(self) -> Any:
        """What goes out as JSON."""
        return self.broker.stats()

    def get(self) -> None:
        """Answer with the figures of this moment."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self.get_stats()))

    head = get


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


def _same(key: str, secret: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(key.encode(errors="surrogatepass"), secret.encode())
