"""Publish and disconnect: what an operator's request does, from the request to its answer.

A publisher's right is decided first, then the body is understood, then all of it is handed to the broker:
nothing is published of a request that holds a mistake.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.access.grant import Grant
from cyclone_sse.access.rules import FORBIDDEN
from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.delivery.publication import Publication, channel_names
from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.http.bodies import Body, read_body

_FORM_ANSWER = b'{"status": "ok"}'
_DISCONNECT_FIELDS = {"channel", "channels", "user", "key"}

Understood = TypeVar("Understood")


class OperatorHandler(BrokerHandler):
    """What publishing and disconnecting have in common: the key, and a broker that may be away."""

    allowed = "POST, OPTIONS"
    body_methods = ("POST",)

    @property
    def secret_key(self) -> str:
        """What a publisher must send as ``key``; empty: nothing."""
        return str(self.broker.secret_key)

    def grant(self, body: Body) -> Grant:
        """What the publisher may do. Raises Refusal."""
        return self.rules.publisher(self.request, body.key, self.secret_key)

    def refuse_failed(self, failure: Failure) -> None:
        """Turn a failure of the broker into a refusal; its own text may name hosts of this side."""
        failure.trap(Unavailable)
        raise Refusal(503, "the broker is away", {"Retry-After": str(random.randint(1, 5))})


class PublishHandler(OperatorHandler):
    """Publish: ``POST /publish`` with ``channel`` (one or more), ``message`` and ``key``, as a form or as
    JSON; several at once as an array, or one in each line. Override ``post``; it may call
    ``self.broker.publish(channels, message)``."""

    def post(self) -> Deferred[None] | None:
        """Hand over what was posted to the broker, and answer when it has been accepted."""
        started = self.broker.reactor.seconds()
        body = read_body(self.request)
        grant = self.grant(body)
        if body.form is not None:
            publications = [_understand(Publication.from_form, body.form, "")]
        else:
            publications = _all_publications(body)
        if not grant.may_publish_everywhere:
            _check_channels(grant, publications)
        try:
            accepted = self.broker.publish_all(publications)
        except Exception:
            self.refuse_failed(Failure())
        if inspect.iscoroutine(accepted):
            accepted = Deferred.fromCoroutine(accepted)
        if isinstance(accepted, Deferred):
            return accepted.addCallbacks(self._answer, self.refuse_failed, (body, publications, started))
        self._answer(accepted, body, publications, started)
        return None

    def _answer(
        self, ids: Sequence[str | None] | None, body: Body, sent: Sequence[Publication], started: float
    ) -> None:
        self.broker.hub.counters.publish_seconds.observe(self.broker.reactor.seconds() - started)
        if body.form is not None:
            self.finish(_FORM_ANSWER)
            return
        answer: dict[str, Any] = {"status": "ok"}
        if ids and None not in ids:  # with pub/sub a message gets its id only when it has come back
            answer |= {"ids": list(ids)} if body.is_batch else {"id": ids[0]}
        channels = sent[0].channels if len(sent) == 1 else {name for each in sent for name in each.channels}
        answer["subscribers"] = self.broker.hub.count_clients(channels)
        self.finish(json.dumps(answer))


class DisconnectHandler(OperatorHandler):
    """End streams: ``POST /disconnect`` with ``channel`` (one or more) or ``user``, and ``key``.

    On every server that shares the broker. Their clients reconnect by themselves, and are checked again.
    """

    def post(self) -> Deferred[None]:
        """Send the order to all servers, and answer how many streams of this server it concerns."""
        body = read_body(self.request)
        if not self.grant(body).may_publish_everywhere:
            raise Refusal(403, "ending streams needs the key, or a token that may publish to *", FORBIDDEN)
        fields = body.form if body.form is not None else _fields(body)
        channels, user = channel_names(fields), (fields.get("user") or [""])[-1]
        if bool(channels) == bool(user):
            raise Refusal(400, "whose streams shall end? name channel, or user")
        d = maybeDeferred(self.broker.control, {"end": {"channel": channels} if channels else {"user": user}})
        return d.addCallbacks(self._answer, self.refuse_failed)

    def _answer(self, streams: int) -> None:
        self.finish(json.dumps({"status": "ok", "streams": streams}))


def _all_publications(body: Body) -> list[Publication]:
    """The publications of a JSON body. All are checked before the first is sent."""
    if not body.values:
        raise Refusal(400, "there is nothing to publish")
    return [
        _understand(Publication.from_json, value, f"index {index}: " if body.is_batch else "")
        for index, value in enumerate(body.values)
    ]


def _check_channels(grant: Grant, publications: Sequence[Publication]) -> None:
    for publication in publications:
        for channel in publication.channels:
            if not grant.may_publish(channel):
                raise Refusal(403, f"the token does not allow to publish to {channel!r}", FORBIDDEN)


def _understand(read: Callable[[Any], Understood], value: object, where: str) -> Understood:
    try:
        return read(value)
    except ValueError as error:
        raise Refusal(400, f"{where}{error}") from None


def _fields(body: Body) -> Mapping[str, list[str]]:
    """The fields of a JSON object in the shape of a form's."""
    value = body.values[0] if len(body.values) == 1 and not body.is_batch else None
    if not isinstance(value, dict):
        raise Refusal(400, "this is not a JSON object")
    unknown = value.keys() - _DISCONNECT_FIELDS
    if unknown:
        raise Refusal(400, f"unknown field {min(unknown)!r}")
    fields = {name: given if isinstance(given, list) else [given] for name, given in value.items()}
    for name, values in fields.items():
        if not all(isinstance(each, str) for each in values):
            raise Refusal(400, f"{name} is not text")
    return fields
