"""The base of every broker: hooks for a source of messages, and its hub.

A concrete broker fetches messages (``connect``, ``subscribe``, ``unsubscribe``) and calls ``broadcast``;
``delivery`` does the rest, for all brokers. Custom applications subclass ``Broker``: the docstring of each
hook says when the hook is called, by which part, and with which arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers.carried import check_carried
from cyclone_sse.brokers.presence_exchange import PresenceExchange
from cyclone_sse.brokers.subscriptions import Subscriptions
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import EventId, EventIds
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


def channels_to_clear(order: Mapping[str, Any]) -> list[str] | None:
    """The channels that an order clears, ``{"clear": {"channel": [..]}}``; None for another order."""
    clear = order.get("clear")
    channels = clear.get("channel") if isinstance(clear, Mapping) else None
    if not isinstance(channels, list | tuple):
        return None
    return [name for name in channels if isinstance(name, str)]


class HasClient(Protocol):
    """The part of a handler that a broker needs: its client. (Custom handlers may have a ``client``.)"""

    @property
    def subscriber(self) -> Client:
        """The client of its stream or poll."""


class EventSender(Protocol):
    """The part of a handler that ``send_event`` needs."""

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
    matches_patterns = False  # in this process: every event arrives here, without subscriptions
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
        # Whether a star makes a pattern depends on the broker.
        is_matched = self.matches_patterns and self.is_pattern("*")
        patterns = PatternIndex(self.is_pattern_blocked) if is_matched else None
        self.hub = Hub(self.settings, not self.lingers, reactor, ids, patterns=patterns)
        self._presence_exchange = PresenceExchange(
            self.hub.presence, self.control, lambda: self.available, reactor
        )
        self.slices = Slices(reactor)
        # A channel's history is complete for as long as it is subscribed to.
        self.subscriptions = Subscriptions(
            self.settings["linger"], self._subscribe, self._unsubscribe, self.slices, reactor
        )
        self._patterns: set[str] = set()  # that have clients
        self._log_limit = LogLimit(reactor.seconds)

    # Hooks that a concrete broker implements.

    def connect(self) -> Deferred[Any] | None:
        """Start fetching messages. Called once, when the service starts."""

    def disconnect(self) -> Deferred[Any] | None:
        """Stop fetching. Called at shutdown, which waits for the Deferred."""

    def subscribe(self, channel: str) -> Deferred[Any] | None:
        """Start receiving the messages of this channel, which has its first subscriber.

        A Deferred fires when the upstream sends all messages of the channel; new clients wait for that.
        """

    def unsubscribe(self, channel: str) -> Deferred[Any] | None:
        """Stop receiving the messages of this channel, whose last subscriber left ``linger`` seconds ago."""

    def is_pattern(self, channel: str) -> bool:
        """Whether this name is a pattern, which matches many channels; called when a client subscribes."""
        return False

    def canonical(self, pattern: str) -> str:
        """The canonical form of this pattern: patterns that match the same channels have the same form."""
        return pattern

    def is_pattern_blocked(self, pattern: str) -> bool:
        """Whether to drop messages that match this pattern. Called for each message."""
        return False

    def publish(self, channels: str | Sequence[str], message: str) -> Any:
        """Publish a message to these channels; one name as text is one channel.

        Called by custom applications, and for each POSTed message if a subclass overrides only this method. A
        Deferred fires when the message has been accepted, or fails with Unavailable.
        """
        return self._publish_upstream([publication(channels, message)])

    def publish_all(self, publications: Sequence[Publication]) -> Any:
        """Publish the messages that were POSTed to this server, in this order.

        Returns the ids of the events, with None for unknown ones, or a Deferred of the ids, which may fail
        with Unavailable. Raises Refusal for a publication that this broker cannot transmit.
        """
        return self._publish_upstream(publications)

    def control(self, order: Mapping[str, Any]) -> Any:
        """Carry out an order with ``obey`` on every server that shares this broker; here, on this one."""
        return self.obey(order)

    @property
    def problem(self) -> str | None:
        """The reason why messages cannot be received or published at this moment; None if they can."""
        return None

    @property
    def available(self) -> bool:
        """Whether messages can be received and published at this moment."""
        return self.problem is None

    # Methods that a concrete broker calls.

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

        source: the channel that is named in the log if the message is dropped (not UTF-8, too long, or a line
        break in its type). ttl, excluded, keep: see Publication.
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
        """Raise ValueError for a message that is longer than a POSTed one may be.

        Without this, one very large message would remove all others from the history.
        """
        if len(message) > self.settings["max-body"]:
            raise ValueError(f"{len(message)} bytes are more than --max-body")

    def confirmed(self, channel: str) -> None:
        """Note that the upstream sends all messages of the channel from now on."""
        if self.subscriptions.is_late(channel):
            self.hub.send_gap([channel])
        else:
            self.hub.set_complete([channel])
        self.subscriptions.confirm(channel)

    def interrupted(self, channels: Iterable[str]) -> None:
        """Send a gap: the upstream was away, and messages of these channels may be missing."""
        self.hub.send_gap(channels)

    def obey(self, order: Mapping[str, Any]) -> int | Deferred[int]:
        """Carry out an order on this server: ``{"end": {"channel": [..]}}`` or ``{"end": {"user": ..}}``.

        Returns the number of ended streams, or a Deferred where that takes some turns. An unknown order ends
        none: a newer server may have sent it.
        """
        self.hub.presence.receive(order.get("presence"))
        names = channels_to_clear(order)
        cleared, counts = None if names is None else self.clear(names), list(self._end(order.get("end")))
        waiting: list[Deferred[Any]] = [each for each in (cleared, *counts) if isinstance(each, Deferred)]
        count = sum(each for each in counts if isinstance(each, int))
        if not waiting:
            return count
        return gatherResults(waiting, consumeErrors=True).addCallbacks(
            lambda later: count + sum(each or 0 for each in later), _cause
        )

    def _end(self, order: object) -> Iterator[int | Deferred[int]]:
        """Carry out an order to end streams: ``{"channel": [..]}`` or ``{"user": ..}``."""
        if isinstance(order, Mapping):
            channels, user = order.get("channel"), order.get("user")
            listed = channels if isinstance(channels, list | tuple) else [channels]
            yield self.hub.end(Ending.ENDED, [name for name in listed if isinstance(name, str)])
            if isinstance(user, str | int):
                yield self.hub.end(Ending.ENDED, user=str(user))

    def clear(self, channels: Sequence[str]) -> Deferred[None] | None:
        """Forget the states and the history of these channels on this server.

        Returns a Deferred where that takes some turns.
        """
        return self.hub.publishing.clear(channels)

    def log_rarely(self, line: str, **values: Any) -> None:
        """Log an error, with at most one line of this kind in a minute."""
        if self._log_limit.acquire(line):
            self.log.error(line, **values)

    # Methods that the handlers and the service call.

    def start(self) -> Deferred[Any]:
        """Start the broker; called by the service when it starts. Fires when messages can be received.

        Raises ValueError at once if the options cannot be used with this broker.
        """
        if self.settings["history-file"] and not self.hub.publishing.is_durable:
            raise ValueError(f"--history-file works only with --broker=http, not with {self.name}")
        self.hub.start()
        self.subscriptions.start()
        self._presence_exchange.start()
        connected = maybeDeferred(self.connect).addErrback(self._log_bug, "connect")
        if self.hub.kinds.have_presence and type(self).control is not Broker.control:
            return Deferred.fromCoroutine(self._presence_exchange.learn(connected))
        return connected

    async def stop(self) -> None:
        """Send the published events, end all streams, then disconnect."""
        await self.hub.idle()
        self.hub.end(Ending.DRAINED)
        await self.hub.idle()
        self.hub.stop()
        self.subscriptions.stop()
        await DeferredList(self.hub.presence.stop())
        await maybeDeferred(self.disconnect).addErrback(self._log_bug, "disconnect")

    def ready(
        self, channels: Sequence[str], last_event_id: EventId | str | None = None
    ) -> Deferred[Any] | None:
        """Subscribe upstream to these channels if necessary.

        None if the upstream already sends their messages; else a Deferred that fires when it does, or after
        some time. Raises Refusal if there are too many patterns already.
        """
        if not (self.has_patterns or self.lingers):
            return None
        names = self.canonical_names(channels)
        self.check_patterns(names)
        return self.subscriptions.ready(names) if self.lingers else None

    def add_client(
        self, handler: HasClient, channels: str | Iterable[str], last_event_id: EventId | str | None = None
    ) -> None:
        """Subscribe the handler's client to one or several channels, after the event with this id: the client
        receives the events that it missed, then new ones."""
        names = self.canonical_names([channels] if isinstance(channels, str) else channels)
        first = self.hub.subscribe(handler.subscriber, names, last_event_id)
        if first and self.has_patterns:
            self._patterns.update(filter(self.is_pattern, first))
        if self.lingers:
            self.subscriptions.occupy(first)

    def remove_client(self, handler: HasClient, channels: str | Iterable[str] | None = None) -> None:
        """Unsubscribe the handler from these channels, or from all if None. Idempotent."""
        names = None
        if channels is not None:
            names = self.canonical_names([channels] if isinstance(channels, str) else channels)
        last = self.hub.unsubscribe(handler.subscriber, names)
        self._patterns.difference_update(last)
        if self.lingers and last:
            self.subscriptions.vacate(last)

    def canonical_names(self, channels: Iterable[str]) -> list[str]:
        """These channels, each once, with patterns in their canonical form."""
        if not self.has_patterns:
            return list(dict.fromkeys(channels))
        names = (self.canonical(name) if self.is_pattern(name) else name for name in channels)
        return list(dict.fromkeys(names))

    def check_patterns(self, names: Iterable[str]) -> None:
        """Raise Refusal if the server would have too many patterns: each is matched with every event."""
        new = sum(self.is_pattern(name) and name not in self._patterns for name in names)
        if new and len(self._patterns) + new > self.settings["max-patterns-total"]:
            raise Refusal(503, "the server has too many patterns: see --max-patterns-total", RETRY_LATER)

    def position(self) -> str:
        """The id of the present moment, from which a client can resume."""
        return self.hub.position()

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, with their number."""
        return self.hub.stats()

    def send_event(self, handler: EventSender, message: str, eid: str | None = None) -> None:
        """Send an event to one client alone."""
        handler.sendEvent(message, eid=eid)

    def _publish_upstream(self, publications: Sequence[Publication]) -> Any:
        """Call the ``publish_all`` of the most derived class that defines one."""
        raise NotImplementedError(f"the {self.name} broker does not publish")

    def _publish_one_by_one(self, publications: Sequence[Publication]) -> Any:
        """Publish one after another: the ``publish_all`` of a subclass that overrides only ``publish``."""
        check_carried(publications, (), self.name)  # `publish` has the text alone
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


def _cause(failure: Failure) -> Failure:
    """The failure of the one of several Deferreds that has failed."""
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure
