"""Subscribe, publish, disconnect, stats: what a request to the server does.

These are the classes that custom applications subclass; what may be overridden is said at each
method. They adapt HTTP to the rules of access and to the broker, and hold no state beyond their request.
"""

from __future__ import annotations

import inspect
import json
import random
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.access.grant import Grant
from cyclone_sse.access.rules import FORBIDDEN, rules_of
from cyclone_sse.brokers.base import UnsupportedType
from cyclone_sse.delivery.publication import Publication, channel_names
from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.http.handler import JsonHandler
from cyclone_sse.http.headers import NO_HEADERS
from cyclone_sse.http.posted import Posted, read_posted
from cyclone_sse.stream import ExtendedSSEHandler

__all__ = [
    "BroadcastHandler",
    "DisconnectHandler",
    "ExtendedSSEHandler",
    "PublishHandler",
    "StatsHandler",
]

_TAKEN = b'{"status": "ok"}'
_MISTAKES = (tuple, list, types.FunctionType, types.MethodType)
_ORDER_FIELDS = {"channel", "channels", "user", "key"}

Read = TypeVar("Read")


class BroadcastHandler(ExtendedSSEHandler):
    """Subscribe: ``GET /?channels=a&channels=b``.

    Override ``get_channels`` and ``authorize`` to decide what a client may hear, ``bind`` and
    ``unbind`` (call these) to be told of clients, ``sendEvent`` to change what they get.
    """

    channels: Sequence[str] = ()
    _asking: Deferred[Any] | None = None  # the question to the application that is under way

    def get_channels(self) -> Iterable[str]:
        """The channels the client is to hear; none refuses it with 400."""
        return channel_names(self.request.arguments)

    def authorize(self) -> Any:
        """Whether the client may: any value by its truth, or a Deferred or coroutine of one.

        False refuses the client with 401, a raised HTTPError with its status. Asked after the rules of the
        options, which hold too.
        """
        return True

    def admit(self) -> Deferred[Any] | None:
        """Refuse the client, or wait until its channels can be heard."""
        self.channels = list(dict.fromkeys(name for name in self.get_channels() if name))
        if not self.channels:
            raise Refusal(400, "name at least one channel: ?channels=...")
        rules = rules_of(self.application)
        rules.check_names(self.channels)
        grant = rules.subscriber(self.request, self.channels)
        if grant is not None:
            self.request.arguments.pop("access_token", None)  # an application may log them
        if isinstance(grant, Deferred):
            self._asking = grant
            return grant.addCallbacks(self._granted, self._not_asked)
        return self._granted(grant)

    def _granted(self, grant: Grant | None) -> Deferred[Any] | None:
        self._asking = None
        if grant is not None:
            self.user, self.expires, self.channels = grant.user, grant.expires, grant.subscribe
        allowed = self.authorize()
        if isinstance(allowed, Deferred) or inspect.iscoroutine(allowed):
            return maybeDeferred(lambda: allowed).addCallback(self._authorized)
        return self._authorized(allowed)

    def _authorized(self, allowed: object) -> Deferred[Any] | None:
        if isinstance(allowed, _MISTAKES) or inspect.isgenerator(allowed) or inspect.isawaitable(allowed):
            # It is true whatever it holds: (False, "why"), a list without a member, a method that was not
            # called. Nobody is let in by that.
            raise TypeError(
                f"authorize() of {type(self).__name__} gave {type(allowed).__name__}, not a truth"
            )
        if not allowed:
            raise Refusal(401, "not authorized")
        return None if self._gone else self.broker.ready(self.channels, self.last_event_id())

    def _not_asked(self, failure: Failure) -> None:
        failure.trap(CancelledError)  # by `on_connection_closed`: the client has left

    def on_connection_closed(self, *args: Any, **kwargs: Any) -> None:
        """Let go of the client, and ask nobody about it any more."""
        super().on_connection_closed(*args, **kwargs)
        if self._asking is not None:
            self._asking.cancel()

    def bind(self) -> None:
        """Let the client hear its channels, first what it missed."""
        self._tell("{ip} subscribes to {channels}")
        self.broker.add_client(self, self.channels, self.last_event_id())
        self.channels = self.subscriber.channels  # the same names for all who hear them
        if type(self) is BroadcastHandler and not self.subscriber.is_poll:
            # Nobody needs them from here on; a subclass's unbind may want its cookies.
            self.request.headers = NO_HEADERS
            self.request.access_token = None

    def unbind(self) -> None:
        """The client is gone."""
        self.broker.remove_client(self)
        self._tell("{ip} has left {channels}")

    def _tell(self, what: str) -> None:
        if self.broker.settings["log-level"] == "debug":
            self.log.debug(what, ip=self.request.remote_ip, channels=self.channels)


class _OperatorHandler(JsonHandler):
    """What publishing and disconnecting have in common: the key, and a broker that may be away."""

    allowed = "POST, OPTIONS"
    body_methods = ("POST",)

    @property
    def secret_key(self) -> str:
        """What a publisher must send as ``key``; empty: nothing."""
        return str(self.broker.secret_key)

    def _grant(self, posted: Posted) -> Grant:
        return rules_of(self.application).publisher(self.request, posted.key, self.secret_key)

    def _not_taken(self, failure: Failure) -> None:
        """Say so in general: the failure's own text may name hosts of this side."""
        if failure.check(UnsupportedType):
            raise Refusal(400, str(failure.value))
        failure.trap(Unavailable)
        raise Refusal(503, "the broker is away", {"Retry-After": str(random.randint(1, 5))})


class PublishHandler(_OperatorHandler):
    """Publish: ``POST /publish`` with ``channel`` (one or more), ``message`` and ``key``, as a form or as
    JSON; several at once as an array, or one in each line. Override ``post``; it may call
    ``self.broker.publish(channels, message)``."""

    def post(self) -> Deferred[None] | None:
        """Hand over what was posted to the broker, and answer when it has been taken."""
        began = self.broker.reactor.seconds()
        posted = read_posted(self.request)
        grant = self._grant(posted)
        if posted.form is not None:
            publications = [_understood(Publication.from_form, posted.form, "")]
        else:
            publications = _each(posted)
        if not grant.may_publish_everywhere:
            _check_channels(grant, publications)
        try:
            taken = self.broker.accept(publications)
        except Exception:
            self._not_taken(Failure())
        if inspect.iscoroutine(taken):
            taken = Deferred.fromCoroutine(taken)
        if isinstance(taken, Deferred):
            return taken.addCallbacks(self._taken, self._not_taken, (posted, publications, began))
        self._taken(taken, posted, publications, began)
        return None

    def _taken(
        self, ids: Sequence[str | None] | None, posted: Posted, sent: Sequence[Publication], began: float
    ) -> None:
        self.broker.hub.counters.publish_seconds.observe(self.broker.reactor.seconds() - began)
        if posted.form is not None:
            self.finish(_TAKEN)
            return
        answer: dict[str, Any] = {"status": "ok"}
        if ids and None not in ids:  # with pub/sub a message gets its id only when it has come back
            answer |= {"ids": list(ids)} if posted.is_batch else {"id": ids[0]}
        channels = sent[0].channels if len(sent) == 1 else {name for each in sent for name in each.channels}
        answer["subscribers"] = self.broker.hub.count_clients(channels)
        self.finish(json.dumps(answer))


class DisconnectHandler(_OperatorHandler):
    """End streams: ``POST /disconnect`` with ``channel`` (one or more) or ``user``, and ``key``.

    On every server that shares the broker. Their clients come back by themselves, and are checked anew.
    """

    def post(self) -> Deferred[None]:
        """Give the order, and answer how many streams of this server it concerns."""
        posted = read_posted(self.request)
        if not self._grant(posted).may_publish_everywhere:
            raise Refusal(403, "ending streams needs the key, or a token that may publish to *", FORBIDDEN)
        fields = posted.form if posted.form is not None else _fields(posted)
        channels, user = channel_names(fields), (fields.get("user") or [""])[-1]
        if bool(channels) == bool(user):
            raise Refusal(400, "whose streams shall end? name channel, or user")
        d = maybeDeferred(self.broker.control, {"end": {"channel": channels} if channels else {"user": user}})
        return d.addCallbacks(self._ended, self._not_taken)

    def _ended(self, streams: int) -> None:
        self.finish(json.dumps({"status": "ok", "streams": streams}))


class StatsHandler(JsonHandler):
    """Stats: ``GET /stats``, how many subscribers each channel has. Override ``get_stats``."""

    def get_stats(self) -> Any:
        """What goes out as JSON: all channels, or those that ``channel`` or ``prefix`` name."""
        rows = self.broker.stats()
        names = set(channel_names(self.request.arguments))
        prefixes = tuple(self.request.arguments.get("prefix", ()))
        if not names and not prefixes:
            return rows
        return [row for row in rows if row[0] in names or (prefixes and row[0].startswith(prefixes))]

    def get(self) -> None:
        """Answer with the figures of this moment."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self.get_stats()))

    head = get


def _each(posted: Posted) -> list[Publication]:
    """The publications of a JSON body. All are checked before the first is sent."""
    if not posted.values:
        raise Refusal(400, "there is nothing to publish")
    return [
        _understood(Publication.from_json, value, f"index {index}: " if posted.is_batch else "")
        for index, value in enumerate(posted.values)
    ]


def _check_channels(grant: Grant, publications: Sequence[Publication]) -> None:
    for publication in publications:
        for channel in publication.channels:
            if not grant.may_publish(channel):
                raise Refusal(403, f"the token does not allow to publish to {channel!r}", FORBIDDEN)


def _understood(read: Callable[[Any], Read], value: Any, where: str) -> Read:
    try:
        return read(value)
    except ValueError as error:
        raise Refusal(400, f"{where}{error}") from None


def _fields(posted: Posted) -> dict[str, list[str]]:
    """The fields of a JSON object in the shape of a form's."""
    value = posted.values[0] if len(posted.values) == 1 and not posted.is_batch else None
    if not isinstance(value, dict):
        raise Refusal(400, "this is not a JSON object")
    unknown = value.keys() - _ORDER_FIELDS
    if unknown:
        raise Refusal(400, f"unknown field {min(unknown)!r}")
    fields = {name: given if isinstance(given, list) else [given] for name, given in value.items()}
    for name, values in fields.items():
        if not all(isinstance(each, str) for each in values):
            raise Refusal(400, f"{name} is not text")
    return fields
