"""What every broker is: the registry of subscribers, the history, and one broadcast for all.

A concrete broker fetches messages from somewhere (``connect``, ``subscribe``, ``unsubscribe``)
and calls ``broadcast``; from there on all brokers are the same. A message gets its id, is
encoded once, goes into the history, and is gathered with whatever else this turn of the reactor
brings; after the turn each subscriber gets all it is due in one write.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers.interests import LINGER, Interests
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.events import PING, Event, EventIds, encode, encode_gap, position
from cyclone_sse.delivery.history import MAX_BYTES, SIZE, TTL, UNKNOWN, History
from cyclone_sse.delivery.resume import Resume, starting_point
from cyclone_sse.delivery.subscriber import NEVER, NOTHING_YET, Subscriber
from cyclone_sse.delivery.turn import Turn
from cyclone_sse.errors import Unavailable

PING_INTERVAL = 30.0  # seconds
SLICE = 1000  # subscribers served before the reactor gets a turn: about 10 ms


BrokerUnavailable = Unavailable  # the name that custom applications know


class Broker:
    """Base of all brokers.

    settings: the options, by their long names (``history-size``); missing ones have their
    defaults. name: for the log. reactor: the clock, the global reactor if None.
    """

    log = Logger()
    lingers = True  # there is an upstream to subscribe to, and its subscriptions outlive clients

    def __init__(self, settings: Mapping[str, Any], name: str, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self.name = name
        self.reactor = reactor
        self.secret_key: str = settings.get("http-secret") or ""
        self.slow_clients = 0  # cut off since the start
        self._newly_slow = 0  # since the last sweep
        self._ids = EventIds(time.time)
        self._history = History(
            settings.get("history-size", SIZE),
            settings.get("history-ttl", TTL),
            settings.get("history-bytes", MAX_BYTES),
            start=UNKNOWN if self.lingers else self._ids.last,
        )
        self._channels: Channels[Subscriber] = Channels()
        self._interests = Interests(settings.get("linger", LINGER) if self.lingers else 0.0, reactor)
        self._turn = Turn()
        self._serving = False  # a turn's events are on their way out
        self._latest: tuple[Event | None, frozenset[str]] | None = None  # no event: it was dropped
        self._ping_interval: float = settings.get("ping-interval", PING_INTERVAL)
        self._tick = min(1.0, self._ping_interval / 10) or 1.0  # seconds between sweeps
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    # What a concrete broker does.

    def connect(self) -> Deferred[Any] | None:
        """Start fetching messages. Called once, when the service starts."""

    def disconnect(self) -> Deferred[Any] | None:
        """Stop fetching. Called at shutdown, which waits for the Deferred."""

    def subscribe(self, channel: str) -> Deferred[Any] | None:
        """The channel got its first subscriber.

        A Deferred says when the upstream sends everything of it; new clients wait for that.
        """

    def unsubscribe(self, channel: str) -> Deferred[Any] | None:
        """The channel's last subscriber left, ``linger`` seconds ago."""

    def is_pattern_blocked(self, pattern: str) -> bool:
        """Whether what comes in under this pattern is to be dropped. Asked for each message."""
        return False

    def publish(self, channels: Sequence[str], message: str) -> Deferred[Any] | None:
        """Hand over a message that was POSTed to this server.

        Fails with BrokerUnavailable when it could not be handed over.
        """
        raise NotImplementedError(f"the {self.name} broker does not publish")

    # What a concrete broker calls.

    def broadcast(self, pattern: str | None, channel: str, message: str | bytes, more: bool = False) -> None:
        """Send an event to everybody who subscribed under the name ``pattern or channel``.

        more: this is a further copy of the message of the call before; whoever had the first
        one does not get it again.
        """
        if pattern is not None and self.is_pattern_blocked(pattern):
            if not more:
                self._latest = None  # a further copy of it is the first that counts
            return
        name = pattern or channel
        if more and self._latest is not None:
            event, earlier = self._latest
            if event is not None:
                self._gather(event, name, earlier)
                self._latest = (event, earlier | {name})
        else:
            self.deliver([name], message, channel)

    def deliver(self, channels: Sequence[str], message: str | bytes, source: str = "") -> None:
        """Send one event to the subscribers of all these channels, once to each.

        source: the channel to be named in the log if the message is not UTF-8, which is what an
        event must be (WHATWG HTML 9.2.5).
        """
        try:
            if isinstance(message, str):
                data = message.encode()
            else:
                data = message
                data.decode()
        except UnicodeError:
            self.log.error("a message in {channel!r} is not UTF-8: dropped", channel=source or channels[0])
            self._latest = (None, frozenset())
            return
        eid = self._ids.next()
        event = Event(eid, encode(data, eid))
        earlier: frozenset[str] = frozenset()
        for name in channels:
            self._gather(event, name, earlier)
            earlier |= {name}
        self._latest = (event, earlier)

    def interests(self) -> set[str]:
        """The names that the upstream is to be subscribed to at this moment."""
        return self._interests.names()

    def confirmed(self, channel: str) -> None:
        """From now on the upstream sends everything of the channel."""
        self._history.begin(channel, self._ids.mark().seq)
        if self._interests.confirm(channel):
            self._tell_gap([channel])

    def interrupted(self, channels: Iterable[str]) -> None:
        """The upstream was away and is back: something of these channels may be missing."""
        names = list(channels)
        for channel in names:
            self._history.begin(channel, self._ids.mark().seq)
        self._tell_gap(names)

    # What the handlers and the service call.

    def start(self) -> None:
        """Begin to work; called by the service when the reactor runs."""
        self._sweeper.start(self._tick, now=False).addErrback(self._bug, "sweep")
        maybeDeferred(self.connect).addErrback(self._bug, "connect")

    async def stop(self) -> None:
        """End the work: what was published goes out, the streams end."""
        if self._sweeper.running:
            self._sweeper.stop()
        for _ in range(100):  # a second at most: others may go on publishing
            if not self._serving and self._turn.first is None:
                break
            await deferLater(self.reactor, 0.01)
        for subscriber in self._channels.listening(self._channels.names()):
            subscriber.close()
        await maybeDeferred(self.disconnect).addErrback(self._bug, "disconnect")

    def ready(self, channels: Sequence[str]) -> Deferred[Any] | None:
        """Subscribe to these channels if need be. None when the upstream already sends what is
        published in them; else a Deferred that fires when it does, or after some time."""
        if not self.lingers:
            return None
        self._expect(channels)
        return self._interests.ready(channels)

    def add_client(self, client: Any, channels: str | Iterable[str]) -> None:
        """Let a client (a handler with its ``subscriber``) hear a channel, or several."""
        names = [channels] if isinstance(channels, str) else list(channels)
        first = self._channels.add(client.subscriber, names)
        if self.lingers:
            self._expect(first)
            for channel in first:
                self._interests.hold(channel)

    def remove_client(self, client: Any, channels: str | Iterable[str] | None = None) -> None:
        """The reverse of add_client; None: all its channels."""
        subscriber: Subscriber = client.subscriber
        names = [channels] if isinstance(channels, str) else channels
        last = self._channels.remove(subscriber, subscriber.channels if names is None else names)
        if subscriber.too_slow and not subscriber.channels:
            self.slow_clients += 1
            self._newly_slow += 1
        if self.lingers:
            for channel in last:
                self._interests.leave(channel, self.reactor.seconds())
            if not self._interests.linger:  # else the sweep does it: here it would cost too much
                self._unsubscribe_expired()

    def attach(self, client: Any, last_event_id: str | None = None) -> None:
        """Let the client hear: first what it missed since that id, then what comes."""
        subscriber: Subscriber = client.subscriber
        if not last_event_id:
            subscriber.after = self._ids.last
            return
        subscriber.quiet = 0
        seq = starting_point(last_event_id, self._ids)
        Resume(subscriber, self._history, self._ids, self.reactor.seconds, seq).begin()

    def position(self) -> str:
        """The id of the present moment, for a client to come back with."""
        return str(self._ids.mark())

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, and how many."""
        return self._channels.stats()

    def send_event(self, client: Any, message: str, eid: str | None = None) -> None:
        """Send an event to one client alone."""
        client.sendEvent(message, eid=eid)

    # The fast path.

    def _gather(self, event: Event, channel: str, earlier: frozenset[str]) -> None:
        self._history.append(channel, event, self.reactor.seconds())
        if self._turn.first is None and not self._serving:
            self.reactor.callLater(0, self._begin_turn)
        self._turn.add(event, channel, earlier)

    def _begin_turn(self) -> None:
        turn, self._turn = self._turn, Turn()
        self._serving = True
        self._serve(turn, self._channels.listening(turn.channels()), 0)

    def _serve(self, turn: Turn, subscribers: list[Subscriber], start: int) -> None:
        """Give a slice of the subscribers what they are due, then let the reactor have a turn."""
        first = turn.first
        assert first is not None
        end = start + SLICE
        channels: tuple[str, ...] = ()
        data = b""
        for subscriber in subscribers[start:end]:
            try:
                if subscriber.after < first and subscriber.plain:
                    if subscriber.channels != channels:  # mostly they are those of the one before
                        channels = subscriber.channels
                        data = turn.frames(channels)
                    subscriber.send(data)
                else:
                    subscriber.take(turn.due(subscriber.channels, subscriber.after))
            except Exception:
                # A custom application's sendEvent; the others are not to suffer.
                self.log.failure("could not send to a subscriber")
        if end < len(subscribers):
            self.reactor.callLater(0, self._serve, turn, subscribers, end)
            return
        self._serving = False
        if self._turn.first is not None:
            self.reactor.callLater(0, self._begin_turn)

    def _tell_gap(self, channels: Iterable[str]) -> None:
        """Tell the clients of these channels that they may have missed something.

        Without an id, since what is still in this turn's hands comes before it.
        """
        frames: dict[tuple[str, ...], bytes] = {}
        names = set(channels)
        for subscriber in self._channels.listening(names):
            if subscriber.after == NEVER:
                continue  # not yet live: it is told when it comes to this
            key = subscriber.channels
            if key not in frames:
                frames[key] = encode_gap(names.intersection(key))
            subscriber.send(frames[key])
            if subscriber.once:
                subscriber.close()

    # Once in a while.

    def _sweep(self) -> None:
        """Send the pings that are due, and forget what is too old."""
        self._history.sweep(self.reactor.seconds())
        if self.lingers:
            self._unsubscribe_expired()
        if self._newly_slow:
            self.log.info("cut off {n} clients that did not read", n=self._newly_slow)
            self._newly_slow = 0
        if self._ping_interval:
            self._ping()

    def _ping(self) -> None:
        due = math.ceil(self._ping_interval / self._tick)
        # A client that has heard nothing has no id to come back with: the ping brings one.
        with_id = position(self._ids.mark()) + PING
        # While events are still to be sent, an id of the present would leave them behind.
        behind = self._serving or self._turn.first is not None
        for subscriber in self._channels.listening(self._channels.names()):
            subscriber.quiet += 1
            if subscriber.quiet >= due or (not behind and NOTHING_YET + due <= subscriber.quiet < 0):
                subscriber.send(PING if subscriber.quiet > 0 else with_id)
                if subscriber.once:
                    subscriber.close()

    def _expect(self, channels: Iterable[str]) -> None:
        for channel in channels:
            if self._interests.expect(channel, self.reactor.seconds()):
                d = maybeDeferred(self.subscribe, channel)
                d.addCallback(partial(self._subscribed, channel)).addErrback(self._bug, "subscribe")

    def _subscribed(self, channel: str, _: object) -> None:
        self.confirmed(channel)

    def _unsubscribe_expired(self) -> None:
        for channel in self._interests.expired(self.reactor.seconds()):
            self._history.end(channel)
            maybeDeferred(self.unsubscribe, channel).addErrback(self._bug, "unsubscribe")

    def _bug(self, failure: Failure, hook: str) -> None:
        self.log.failure("{broker}: {hook} failed", failure, broker=self.name, hook=hook)
