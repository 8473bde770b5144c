"""Subscribe, publish, stats: what a request to the server does.

These are the classes that custom applications subclass; what may be overridden is said at each
method. They adapt HTTP to the broker and hold no state beyond their request.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.http.headers import NO_HEADERS
from cyclone_sse.http.responses import JsonHandler
from cyclone_sse.stream import ExtendedSSEHandler

__all__ = ["BroadcastHandler", "ExtendedSSEHandler", "PublishHandler", "StatsHandler"]

_TAKEN = b'{"status": "ok"}'


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
        return None if self._gone else self.broker.ready(self.channels, self.last_event_id())

    def bind(self) -> None:
        """Let the client hear its channels, first what it missed."""
        self._tell("{ip} subscribes to {channels}")
        self.broker.add_client(self, self.channels, self.last_event_id())
        self.channels = self.subscriber.channels  # the same names for all who hear them
        if type(self) is BroadcastHandler and not self.subscriber.once:
            # Nobody needs them from here on; a subclass's unbind may want its cookies.
            self.request.headers = NO_HEADERS

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
    body_methods = ("POST",)

    @property
    def secret_key(self) -> str:
        """What a publisher must send as ``key``; empty: nothing."""
        return str(self.broker.secret_key)

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
        failure.trap(Unavailable)
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
            if not all(isinstance(value, str) and _is_utf8(value) for value in values):
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


def _is_utf8(text: str) -> bool:
    """JSON can hold half of a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(key: str, secret: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(key.encode(), secret.encode())
