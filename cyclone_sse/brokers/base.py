"""The base of every broker: hooks for a source of messages, and its hub.

A concrete broker fetches messages (``connect``, ``subscribe``, ``unsubscribe``) and calls ``broadcast``; from
there on ``delivery`` does the rest, for all brokers alike. ``Broker`` is what custom applications subclass:
each hook says which part calls it, when, and with what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers.carried import fields_in
from cyclone_sse.brokers.presence_exchange import PresenceExchange
from cyclone_sse.brokers.subscriptions import Subscriptions
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import EventIds
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.publication import Publication, publication
from cyclone_sse.errors import Ending, Refusal, Unavailable
from cyclone_sse.log_limit import LogLimit
from cyclone_sse.options import with_defaults
from cyclone_sse.reactors import reactor_or_global
from cyclone_sse.slices import Slices

BrokerUnavailable = Unavailable  # the name that custom applications know

RETRY_LATER = {"Retry-After": "5"}


class Subscriber(Protocol):
    """What a broker needs of a handler: its client."""

    @property
    def subscriber(self) -> Client:
        """The client of its stream or poll."""


class EventSender(Protocol):
    """What ``send_event`` needs of a handler."""

    def sendEvent(self, message: str, *, eid: str | None = None) -> Any:
        """Send an event to this client alone."""


class Broker:
    """Base of all brokers.

    settings: the options, by their long names (``history-size``); missing ones have their defaults. name:
    for the log. reactor: the clock, the global reactor if None. ids: the source of event ids, if not this
    process.
    """

    log = Logger()
    lingers = True  # there is an upstream to subscribe to, and its subscriptions outlive clients
    matches_patterns = False  # in this process: every event comes this way, whatever is subscribed to
    open_patterns = True  # every client may subscribe to patterns, also without --patterns=1
    # What an event can have in addition to channels and message, by the names that publishers use.
    carries: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Connect the two hooks for publishing: a subclass may override either of them alone."""
        super().__init_subclass__(**kwargs)
        if "publish_all" in vars(cls):
            inherited: Any = super(cls, cls)
            if inherited.publish_all is not Broker._publish_one_by_one:
                cls._publish_upstream = cls.publish_all  # type: ignore[method-assign]
        elif "publish" in vars(cls):
            cls.publish_all = Broker._publish_one_by_one  # type: ignore[method-assign]

    def __init__(
        self,
        settings: Mapping[str, Any],
        name: str,
        reactor: IReactorTime | None = None,
        ids: EventIds | None = None,
    ) -> None:
        reactor = reactor_or_global(reactor)
        self.settings = with_defaults(settings)
        self.name = name
        self.reactor = reactor
        self.secret_key: str = self.settings["http-secret"] or ""
        self.has_patterns = type(self).is_pattern is not Broker.is_pattern  # some names may be patterns
        # A star makes a pattern if this broker says so; else it is a character like others.
        is_matched = self.matches_patterns and self.is_pattern("*")
        patterns = PatternIndex(self.is_pattern_blocked) if is_matched else None
        self.hub = Hub(self.settings, not self.lingers, reactor, ids, patterns=patterns)
        self._presence = PresenceExchange(self.hub.presence, self.control, lambda: self.available, reactor)
        self.slices = Slices(reactor)
        # A channel's history is complete for as long as it is subscribed to.
        self.subscriptions = Subscriptions(
            self.settings["linger"], self._subscribe, self._unsubscribe, self.slices, reactor
        )
        self._patterns: set[str] = set()  # that have clients
        self._log_limit = LogLimit(reactor.seconds)

    # What a concrete broker does.

    def connect(self) -> Deferred[Any] | None:
        """Start fetching messages. Called once, when the service starts."""

    def disconnect(self) -> Deferred[Any] | None:
        """Stop fetching. Called at shutdown, which waits for the Deferred."""

    def subscribe(self, channel: str) -> Deferred[Any] | None:
        """The channel got its first subscriber.

        A Deferred fires when the upstream sends everything of the channel; new clients wait for that.
        """

    def unsubscribe(self, channel: str) -> Deferred[Any] | None:
        """The channel's last subscriber left, ``linger`` seconds ago."""

    def is_pattern(self, channel: str) -> bool:
        """Whether this name stands for many channels; called when a client subscribes."""
        return False

    def canonical(self, pattern: str) -> str:
        """The one way to write what this pattern stands for."""
        return pattern

    def is_pattern_blocked(self, pattern: str) -> bool:
        """Whether to drop what comes in under this pattern. Called for each message."""
        return False

    def publish(self, channels: str | Sequence[str], message: str) -> Any:
        """Publish a message to these channels; one name as text is one channel.

        Called by custom applications, and for each message that is POSTed if a subclass overrides this method
        alone. A Deferred fires when the message has been taken; it fails with Unavailable if it was not.
        """
        return self._publish_upstream([publication(channels, message)])

    def publish_all(self, publications: Sequence[Publication]) -> Any:
        """Publish what was POSTed to this server, in this order.

        Returns the ids of the events as far as they are known (a sequence of text or None), or a Deferred of
        that, which fails with Unavailable. Raises Refusal for what this broker cannot carry.
        """
        return self._publish_upstream(publications)

    def control(self, order: Mapping[str, Any]) -> Any:
        """Carry out an order on every server that shares this broker, by ``obey``; here, on this one."""
        return self.obey(order)

    @property
    def problem(self) -> str | None:
        """Why messages do not come in, or cannot be published, at this moment; None if they do and can."""
        return None

    @property
    def available(self) -> bool:
        """Whether messages come in and can be published at this moment."""
        return self.problem is None

    # What a concrete broker calls.

    def broadcast(self, pattern: str | None, channel: str, message: str | bytes) -> None:
        """Publish an event to all subscribers of the name ``pattern or channel``."""
        if pattern is not None and self.is_pattern_blocked(pattern):
            return
        self.deliver([pattern or channel], message, channel)

    def deliver(
        self,
        channels: Sequence[str],
        message: str | bytes,
        source: str = "",
        type: str | None = None,
        retry: int | None = None,
        *,
        ttl: float | None = None,
        excluded: str | None = None,
        keep: bool = False,
    ) -> None:
        """Publish one event to the subscribers of all these channels, once to each.

        source: channel named in the log if the message is dropped (not UTF-8, too long, or a line break in
        its type). ttl, excluded, keep: see Publication.
        """
        try:
            data = message.encode() if isinstance(message, str) else message
            self.check_size(data)
            data.decode()
            event = Publication(tuple(channels), data, type, retry, ttl, excluded, keep)
        except UnicodeError:
            self._log_dropped(source or channels[0], "is not UTF-8")
        except ValueError as error:
            self._log_dropped(source or channels[0], f"cannot be sent, {error}")
        else:
            try:
                self.hub.publish(event)
            except Refusal as refusal:  # no room for a state
                self._log_dropped(source or channels[0], f"is refused, {refusal.reason}")

    def check_size(self, message: bytes) -> None:
        """Raise ValueError for a message that is longer than one that is POSTed may be.

        Without this, one very large message would push all others out of the history.
        """
        if len(message) > self.settings["max-body"]:
            raise ValueError(f"{len(message)} bytes are more than --max-body")

    def confirmed(self, channel: str) -> None:
        """From now on the upstream sends everything of the channel."""
        if self.subscriptions.is_late(channel):
            self.hub.send_gap([channel])
        else:
            self.hub.set_complete([channel])
        self.subscriptions.confirm(channel)

    def interrupted(self, channels: Iterable[str]) -> None:
        """The upstream was away and is back: something of these channels may be missing."""
        self.hub.send_gap(channels)

    def obey(self, order: Mapping[str, Any]) -> int:
        """Carry out an order on this server: ``{"end": {"channel": [..]}}`` or ``{"end": {"user": ..}}``.

        Returns the number of streams that it ends. An order that is not understood ends none: a newer server
        may have sent it.
        """
        self.hub.presence.receive(order.get("presence"))
        self._clear(order.get("clear"))
        end = order.get("end")
        if not isinstance(end, Mapping):
            return 0
        channels, user = end.get("channel"), end.get("user")
        listed = channels if isinstance(channels, list | tuple) else [channels]
        count = self.hub.end(Ending.ENDED, [name for name in listed if isinstance(name, str)])
        if isinstance(user, str | int):
            count += self.hub.end(Ending.ENDED, user=str(user))
        return count

    def _clear(self, order: object) -> None:
        """Carry out an order to forget channels: ``{"channel": [..]}``."""
        channels = order.get("channel") if isinstance(order, Mapping) else None
        if isinstance(channels, list | tuple):
            self.clear([name for name in channels if isinstance(name, str)])

    def clear(self, channels: Sequence[str]) -> None:
        """Forget the states and the history of these channels on this server."""
        self.hub.publishing.clear(channels)

    def log_rarely(self, line: str, **values: Any) -> None:
        """Log an error, but not more than one line of this kind in a minute."""
        if self._log_limit.acquire(line):
            self.log.error(line, **values)

    # What the handlers and the service call.

    def start(self) -> Deferred[Any]:
        """Start working; called by the service when it starts. Fires when messages come in.

        Raises ValueError at once if the options cannot be met.
        """
        if self.settings["history-file"] and not self.hub.publishing.is_durable:
            raise ValueError(f"--history-file goes with --broker=http, not with {self.name}")
        self.hub.start()
        self.subscriptions.start()
        self._presence.start()
        connected = maybeDeferred(self.connect).addErrback(self._log_bug, "connect")
        if self.hub.presence.is_wanted and type(self).control is not Broker.control:
            return Deferred.fromCoroutine(self._presence.learn(connected))
        return connected

    async def stop(self) -> None:
        """Send out what was published, end all streams, then disconnect."""
        await self.hub.idle()
        self.hub.end(Ending.DRAINED)
        await self.hub.idle()
        self.hub.stop()
        self.subscriptions.stop()
        await DeferredList(self.hub.presence.stop())
        await maybeDeferred(self.disconnect).addErrback(self._log_bug, "disconnect")

    def ready(self, channels: Sequence[str], last_event_id: str | None = None) -> Deferred[Any] | None:
        """Subscribe upstream to these channels if need be.

        None if the upstream already sends what is published in them; else a Deferred that fires when it does,
        or after some time. Raises Refusal if there are too many patterns already.
        """
        if not (self.has_patterns or self.lingers):
            return None
        names = self.canonical_names(channels)
        self.check_patterns(names)
        return self.subscriptions.ready(names) if self.lingers else None

    def add_client(
        self, handler: Subscriber, channels: str | Iterable[str], last_event_id: str | None = None
    ) -> None:
        """Subscribe the handler's client to one channel or several: it receives what it missed since that
        id, then what comes."""
        names = self.canonical_names([channels] if isinstance(channels, str) else channels)
        first = self.hub.subscribe(handler.subscriber, names, last_event_id)
        if first and self.has_patterns:
            self._patterns.update(filter(self.is_pattern, first))
        if self.lingers:
            self.subscriptions.occupy(first)

    def remove_client(self, handler: Subscriber, channels: str | Iterable[str] | None = None) -> None:
        """Unsubscribe the handler from these channels, or from all if None. Idempotent."""
        names = None
        if channels is not None:
            names = self.canonical_names([channels] if isinstance(channels, str) else channels)
        last = self.hub.unsubscribe(handler.subscriber, names)
        self._patterns.difference_update(last)
        if self.lingers and last:
            self.subscriptions.vacate(last)

    def canonical_names(self, channels: Iterable[str]) -> list[str]:
        """These channels, each once, with patterns written in one way."""
        if not self.has_patterns:
            return list(dict.fromkeys(channels))
        names = (self.canonical(name) if self.is_pattern(name) else name for name in channels)
        return list(dict.fromkeys(names))

    def check_patterns(self, names: Iterable[str]) -> None:
        """Raise Refusal if these patterns are more than the server may have: each costs something with every
        event."""
        new = sum(self.is_pattern(name) and name not in self._patterns for name in names)
        if new and len(self._patterns) + new > self.settings["max-patterns-total"]:
            raise Refusal(503, "the server has too many patterns: see --max-patterns-total", RETRY_LATER)

    def position(self) -> str:
        """The id of the present moment, for a client to come back with."""
        return self.hub.position()

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, and how many."""
        return self.hub.stats()

    def send_event(self, handler: EventSender, message: str, eid: str | None = None) -> None:
        """Send an event to one client alone."""
        handler.sendEvent(message, eid=eid)

    def _publish_upstream(self, publications: Sequence[Publication]) -> Any:
        """The most derived ``publish_all`` that is a broker's own."""
        raise NotImplementedError(f"the {self.name} broker does not publish")

    def _publish_one_by_one(self, publications: Sequence[Publication]) -> Any:
        """What ``publish_all`` is for a subclass that overrides ``publish`` alone."""
        if any(fields_in(each) for each in publications):
            raise Refusal(
                400,
                f"the broker {self.name} carries text only: leave out event, retry, ttl, except and keep",
            )
        return Deferred.fromCoroutine(self._publish_each(publications))

    async def _publish_each(self, publications: Sequence[Publication]) -> Sequence[str | None]:
        for each in publications:
            await maybeDeferred(self.publish, list(each.channels), each.text)
        return [None] * len(publications)

    def _subscribe(self, channel: str) -> None:
        d = maybeDeferred(self.subscribe, channel)
        d.addCallback(lambda _: self.confirmed(channel)).addErrback(self._log_bug, "subscribe")

    def _unsubscribe(self, channel: str) -> None:
        self.hub.forget(channel)
        maybeDeferred(self.unsubscribe, channel).addErrback(self._log_bug, "unsubscribe")

    def _log_dropped(self, channel: str, reason: str) -> None:
        self.log_rarely(
            "a message in {channel!r} {reason}: dropped; there may be more",
            channel=channel[:100],
            reason=reason,
        )

    def _log_bug(self, failure: Failure, hook: str) -> None:
        self.log.failure("{broker}: {hook} failed", failure, broker=self.name, hook=hook)
