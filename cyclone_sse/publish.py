"""Publish, disconnect and clear: the requests of publishers, from the request to the answer.

First the publisher is authorised, then the whole body is checked, then all events are passed to the broker:
of a request with a mistake, nothing is published.
"""

from __future__ import annotations

import inspect
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.access.grant import PUBLISH_EVERYWHERE, Grant
from cyclone_sse.access.rules import INSUFFICIENT_SCOPE
from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.delivery.kinds import Kind
from cyclone_sse.delivery.publication import CHANNEL_FIELDS, Publication, channel_names, check_is_form
from cyclone_sse.delivery.rates import BURST_TIME
from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.http.bodies import Body, may_hold_key, read_body
from cyclone_sse.patterns import check_names
from cyclone_sse.slices import finish_in_turns

CHECKED_AT_ONCE = 500  # publications, or channels, that are checked in one slice: about 3 ms

_FORM_ANSWER = b'{"status": "ok"}'
_CLEAR_FIELDS = frozenset((*CHANNEL_FIELDS, "key"))
_DISCONNECT_FIELDS = _CLEAR_FIELDS | {"user"}

Read = TypeVar("Read")
Result = TypeVar("Result")


class PostHandler(BrokerHandler):
    """The common base of what publishers POST: the key, and a broker that may be away."""

    allowed = "POST, OPTIONS"
    body_methods = ("POST",)

    @property
    def secret_key(self) -> str:
        """The key that a publisher must send; empty: none."""
        return str(self.broker.secret_key)

    def read(self) -> Generator[None, None, tuple[Grant, Body]]:
        """Authorise the publisher, and read the body, in slices. Raises Refusal.

        The header decides, or the key in the body: without a valid header, a body that cannot contain the key
        is not read.
        """
        request, rules, secret = self.request, self.rules, self.secret_key
        grant = rules.publisher_by_header(request, secret)
        if grant is None and not may_hold_key(request, partial(rules.is_key, secret=secret)):
            grant = rules.publisher_by_key(request, "", secret)
        body = yield from read_body(request, self.broker.settings["max-batch"])
        return grant or rules.publisher_by_key(request, body.key, secret), body

    def in_turns(self, work: Generator[None, None, Result]) -> Result | Deferred[Result]:
        """The result of this work: at once for short work, else a Deferred.

        If the key of the publisher's token must be fetched, the work starts when it is known.
        """
        queue = self.request.connection.server.slices
        return self.rules.when_keys_known(self.request, finish_in_turns, work, queue)

    def refuse_failed(self, failure: Failure) -> None:
        """Convert a failure of the broker into a refusal, without its text, which may name internal hosts."""
        failure.trap(Unavailable)
        # Whether a publisher that tries again may publish twice.
        published = {"published": getattr(failure.value, "published", "unknown")}
        raise Refusal(503, "the broker is away", {"Retry-After": str(random.randint(1, 5))}, published)


class PublishHandler(PostHandler):
    """Publish: ``POST /publish`` with ``channel`` (one or more), ``message`` and ``key``, as a form or as
    JSON; several at once as an array, or one on each line. Override ``post``; it may call
    ``self.broker.publish(channels, message)``."""

    _started: float | None = None  # when the publication began

    def post(self) -> Deferred[None] | None:
        """Pass the publications to the broker, and answer when they have been accepted."""
        self._started = self.broker.reactor.seconds()
        checked = self.in_turns(self._check())
        if isinstance(checked, tuple):  # tested first: recognising a Deferred costs more
            return self._publish(checked)
        return checked.addCallback(self._publish)

    def finish(self, chunk: Any = None) -> None:
        """Answer, and record the duration of every answer."""
        if self._started is not None:
            seconds = self.broker.reactor.seconds() - self._started
            self.broker.hub.counters.publish_seconds.observe(seconds)
        super().finish(chunk)

    def _check(self) -> Generator[None, None, tuple[Body, Sequence[Publication]]]:
        """The publications of the body. All are checked before the first is published. Raises Refusal."""
        grant, body = yield from self.read()
        if body.form is not None:
            publications = [_or_refuse(Publication.from_form, body.form)]
        else:
            publications = yield from _all_publications(body)
        key = self.request.headers.exact("Idempotency-Key")
        if key is not None:
            publications = yield from _with_key(publications, key, body.is_batch)
        if not grant.may_publish_everywhere:
            yield from _check_channels(grant, publications)
        if self.broker.hub.kinds:
            yield from self._check_kinds(grant, publications)
        return body, publications

    def _check_kinds(self, grant: Grant, publications: Sequence[Publication]) -> Generator[None, None, None]:
        """Check the publications against the rules of their channels, in slices. Raises Refusal."""
        hub, events, checked = self.broker.hub, Counter[Kind](), 0
        for publication in publications:
            found = set()
            for channel in publication.channels:
                kind = hub.kinds.of(channel)
                found.add(kind)
                if kind.max_message is not None and len(publication.data) > kind.max_message:
                    reason = f"a message to {channel!r} may have at most {kind.max_message} bytes"
                    raise Refusal(413, reason)
                checked += 1
                if not checked % CHECKED_AT_ONCE:
                    yield
            if not hub.idempotency.knows(publication.idempotency_key):  # else it publishes nothing
                events.update(found)
        if grant is PUBLISH_EVERYWHERE:
            return  # the key is exempt, and a token for all channels is not
        wait = hub.rates.spend(grant.user, events, self.broker.reactor.seconds())
        if wait:
            reason = "this user publishes faster than the channel allows"
            if math.isinf(wait):  # without this, the same batch would be sent forever
                reason, wait = "more events at once than the channel allows a user: send fewer", BURST_TIME
            raise Refusal(429, reason, {"Retry-After": str(math.ceil(wait))})

    def _publish(self, checked: tuple[Body, Sequence[Publication]]) -> Deferred[None] | None:
        body, publications = checked
        try:
            accepted = self.broker.publish_all(publications)
        except Exception:
            self.refuse_failed(Failure())
        if not isinstance(accepted, list):
            if inspect.iscoroutine(accepted):  # of a custom broker
                accepted = Deferred.fromCoroutine(accepted)
            if isinstance(accepted, Deferred):
                return accepted.addCallbacks(self._answer, self.refuse_failed, (body, publications))
        return self._answer(accepted, body, publications)

    def _answer(
        self, ids: Sequence[str | None] | None, body: Body, sent: Sequence[Publication]
    ) -> Deferred[None] | None:
        if body.form is not None:
            self.finish(_FORM_ANSWER)
            return None
        answer: dict[str, Any] = {"status": "ok"}
        if ids and None not in ids:  # with pub/sub a message gets its id only when the broker returns it
            answer |= {"ids": list(ids)} if body.is_batch else {"id": ids[0]}
        channels = sent[0].channels if len(sent) == 1 else {name for each in sent for name in each.channels}
        hub = self.broker.hub
        if len(channels) == 1:
            self._finish_answer(hub.channels.count(*channels), answer)
            return None
        count = finish_in_turns(hub.count_in_slices(channels), self.request.connection.server.slices)
        if isinstance(count, Deferred):
            return count.addCallback(self._finish_answer, answer)
        self._finish_answer(count, answer)
        return None

    def _finish_answer(self, subscribers: int, answer: dict[str, Any]) -> None:
        self.finish(json.dumps({**answer, "subscribers": subscribers}))


class DisconnectHandler(PostHandler):
    """End streams: ``POST /disconnect`` with ``channel`` (one or more) or ``user``, and ``key``.

    On every server that shares the broker. The clients reconnect, and are authorised again.
    """

    def post(self) -> Deferred[None]:
        """Send the order to all servers, and answer with the number of ended streams of this server."""
        reading = self.in_turns(self.read())
        if isinstance(reading, Deferred):
            return reading.addCallback(self._end_streams)
        return self._end_streams(reading)

    def _end_streams(self, read: tuple[Grant, Body]) -> Deferred[None]:
        grant, body = read
        if not grant.may_publish_everywhere:
            raise Refusal(
                403, "ending streams needs the key, or a token that may publish to *", INSUFFICIENT_SCOPE
            )
        fields = _fields(body, _DISCONNECT_FIELDS)
        channels, users = channel_names(fields), set(filter(None, fields.get("user", ())))
        if bool(channels) == bool(users):
            raise Refusal(400, "name the channel or the user whose streams to end")
        if len(users) > 1:
            # Without this, only the streams of the last one would end.
            raise Refusal(400, "name one user: send a request for each of them")
        _or_refuse(check_names, channels)
        d = maybeDeferred(
            self.broker.control, {"end": {"channel": channels} if channels else {"user": users.pop()}}
        )
        return d.addCallbacks(self._answer, self.refuse_failed)

    def _answer(self, streams: int) -> None:
        self.finish(json.dumps({"status": "ok", "streams": streams}))


class ClearHandler(PostHandler):
    """Clear: ``POST /clear`` with ``channel`` (one or more) and ``key``.

    The state and the history of the channels are deleted on every server that shares the broker.
    """

    def post(self) -> Deferred[None]:
        """Send the order to all servers."""
        reading = self.in_turns(self.read())
        if isinstance(reading, Deferred):
            return reading.addCallback(self._clear)
        return self._clear(reading)

    def _clear(self, read: tuple[Grant, Body]) -> Deferred[None]:
        grant, body = read
        if not grant.may_publish_everywhere:
            raise Refusal(403, "clearing needs the key, or a token that may publish to *", INSUFFICIENT_SCOPE)
        channels = channel_names(_fields(body, _CLEAR_FIELDS))
        if not channels:
            raise Refusal(400, "name at least one channel to clear")
        _or_refuse(check_names, channels)
        d = maybeDeferred(self.broker.control, {"clear": {"channel": channels}})
        return d.addCallbacks(lambda _: self.finish(_FORM_ANSWER), self.refuse_failed)


def _all_publications(body: Body) -> Generator[None, None, list[Publication]]:
    """The publications of a JSON body, in slices."""
    if not body.values:
        raise Refusal(400, "there is nothing to publish")
    publications = []
    checked = 0  # publications and channels, in this slice
    for index, value in enumerate(body.values):
        try:
            publication = Publication.from_json(value)
        except ValueError as error:
            raise Refusal(400, f"index {index}: {error}" if body.is_batch else str(error)) from None
        publications.append(publication)
        checked += 1 + len(publication.channels)
        if checked >= 2 * CHECKED_AT_ONCE:
            checked = 0
            yield
    return publications


def _with_key(
    publications: Sequence[Publication], key: str, is_batch: bool
) -> Generator[None, None, list[Publication]]:
    """The publications with the key of the header; an object's own key takes precedence."""
    keyed = []
    for index, each in enumerate(publications):
        own = each.idempotency_key or (f"{key} {index}" if is_batch else key)
        try:
            keyed.append(replace(each, idempotency_key=own))
        except ValueError:
            own = ""
        if not key or " " in key or not own:
            raise Refusal(400, "Idempotency-Key is not 1 to 200 visible ASCII characters")
        if not len(keyed) % CHECKED_AT_ONCE:
            yield
    return keyed


def _check_channels(grant: Grant, publications: Sequence[Publication]) -> Generator[None, None, None]:
    checked = 0
    for publication in publications:
        for channel in publication.channels:
            if not grant.may_publish(channel):
                raise Refusal(403, f"the token does not allow publishing to {channel!r}", INSUFFICIENT_SCOPE)
            checked += 1
            if not checked % CHECKED_AT_ONCE:
                yield


def _or_refuse(read: Callable[[Any], Read], value: object) -> Read:
    """What read returns for this value. Raises Refusal for its ValueError."""
    try:
        return read(value)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def _fields(body: Body, known: Collection[str]) -> Mapping[str, list[str]]:
    """The fields of a form; or of a JSON object, all of which are known, in the shape of a form's."""
    if body.form is not None:
        _or_refuse(check_is_form, body.form)
        return body.form
    value = body.values[0] if len(body.values) == 1 and not body.is_batch else None
    if not isinstance(value, dict):
        raise Refusal(400, "this is not a JSON object")
    unknown = value.keys() - known
    if unknown:
        raise Refusal(400, f"unknown field {min(unknown)!r}")
    fields = {}
    for name, given in value.items():
        fields[name] = values = given if isinstance(given, list) and name in CHANNEL_FIELDS else [given]
        if not all(isinstance(each, str) for each in values):
            raise Refusal(400, f"{name} is not text")
    return fields
