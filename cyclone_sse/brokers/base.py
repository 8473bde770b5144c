"""What every broker is: hooks for whoever fetches messages from somewhere, and its hub.

A concrete broker fetches messages (``connect``, ``subscribe``, ``unsubscribe``) and calls ``broadcast``;
from there on ``delivery`` does the rest, for all brokers alike. ``Broker`` is what custom applications
subclass: each hook says who calls it, when, and with what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.brokers.subscriptions import Subscriptions
from cyclone_sse.delivery.events import EventIds
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.publication import Publication, publication
from cyclone_sse.errors import Ending, Unavailable
from cyclone_sse.options import with_defaults

PRESENCE_WAIT = 1.0  # seconds for the other servers to report their members to one that starts
PRESENCE_TRIES = 20

BrokerUnavailable = Unavailable  # the name that custom applications know


class UnsupportedType(ValueError):
    """This broker has no place for an event's type or retry; the text says so to the publisher."""


class Broker:
    """Base of all brokers.

    settings: the options, by their long names (``history-size``); missing ones have their
    defaults. name: for the log. reactor: the clock, the global reactor if None. ids: who gives the events
    their ids, if not this process.
    """

    log = Logger()
    lingers = True  # there is an upstream to subscribe to, and its subscriptions outlive clients
    open_patterns = True  # whoever may hear a channel may hear a pattern, also without --patterns=1

    def __init__(
        self, settings: Mapping[str, Any], name: str, reactor: Any = None, ids: EventIds | None = None
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.settings = with_defaults(settings)
        self.name = name
        self.reactor = reactor
        self.secret_key: str = self.settings["http-secret"] or ""
        self.hub = Hub(self.settings, not self.lingers, reactor, ids)
        # A channel's history is complete for as long as it is subscribed to.
        self.interests = Subscriptions(self.settings["linger"], self._subscribe, self._unsubscribe, reactor)

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

    def is_pattern(self, channel: str) -> bool:
        """Whether this name stands for many channels; asked when a client subscribes."""
        return False

    def is_pattern_blocked(self, pattern: str) -> bool:
        """Whether what comes in under this pattern is to be dropped. Asked for each message."""
        return False

    def publish(self, channels: str | Sequence[str], message: str) -> Any:
        """Hand over a message for these channels; one name as text is one channel.

        Called by custom applications, and by ``publish_all`` where a subclass overrides it alone. A Deferred
        says when it has been taken; it fails with Unavailable when it could not be handed over.
        """
        if type(self).publish_all is Broker.publish_all:
            raise NotImplementedError(f"the {self.name} broker does not publish")
        return self.publish_all([publication(channels, message)])

    def publish_all(self, publications: Sequence[Publication]) -> Any:
        """Hand over what was POSTed to this server, in this order.

        Gives the ids of the events as far as they are known (a sequence of text or None), or a Deferred of
        that, which fails with Unavailable. Raises UnsupportedType.
        """
        if any(each.type is not None or each.retry is not None for each in publications):
            raise UnsupportedType(f"the {self.name} broker carries neither event nor retry")
        return Deferred.fromCoroutine(self._publish_each(publications))

    async def _publish_each(self, publications: Sequence[Publication]) -> Sequence[str | None]:
        for each in publications:
            await maybeDeferred(self.publish, list(each.channels), each.text)
        return [None] * len(publications)

    def control(self, order: Mapping[str, Any]) -> Any:
        """Carry out an order on every server that shares this broker, by ``obey``; here, on this one."""
        return self.obey(order)

    @property
    def available(self) -> bool:
        """Whether messages come in and can be published at this moment."""
        return True

    # What a concrete broker calls.

    def broadcast(self, pattern: str | None, channel: str, message: str | bytes) -> None:
        """Send an event to everybody who subscribed under the name ``pattern or channel``."""
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
    ) -> None:
        """Send one event to the subscribers of all these channels, once to each.

        source: the channel to be named in the log where the message cannot be sent: it must be UTF-8 (WHATWG
        HTML 9.2.5), and its type in one line.
        """
        try:
            data = message.encode() if isinstance(message, str) else message
            data.decode()
            event = Publication(tuple(channels), data, type, retry)
        except UnicodeError:
            reason = "is not UTF-8"
        except ValueError as error:
            reason = f"cannot be sent, {error}"
        else:
            self.hub.publish(event)
            return
        self.log.error(
            "a message in {channel!r} {reason}: dropped", channel=source or channels[0], reason=reason
        )

    def confirmed(self, channel: str) -> None:
        """From now on the upstream sends everything of the channel."""
        if self.interests.is_late(channel):
            self.hub.send_gap([channel])
        else:
            self.hub.set_complete([channel])
        self.interests.confirm(channel)

    def interrupted(self, channels: Iterable[str]) -> None:
        """The upstream was away and is back: something of these channels may be missing."""
        self.hub.send_gap(channels)

    def obey(self, order: Mapping[str, Any]) -> int:
        """Carry out an order on this server: ``{"end": {"channel": [..]}}`` or ``{"end": {"user": ..}}``.

        Gives how many streams it concerns. One that is not understood concerns none: a newer server may have
        sent it.
        """
        self.hub.presence.receive(order.get("presence"))
        end = order.get("end")
        if not isinstance(end, Mapping):
            return 0
        channels, user = end.get("channel"), end.get("user")
        listed = channels if isinstance(channels, list | tuple) else [channels]
        count = self.hub.end(Ending.ENDED, [name for name in listed if isinstance(name, str)])
        if isinstance(user, str | int):
            count += self.hub.end(Ending.ENDED, user=str(user))
        return count

    # What the handlers and the service call.

    def accept(self, publications: Sequence[Publication]) -> Any:
        """Hand over by ``publish_all``; or one by one, where a subclass has overridden ``publish`` alone."""
        for kind in type(self).__mro__:
            if "publish_all" in vars(kind):
                break
            if "publish" in vars(kind):
                return Broker.publish_all(self, publications)
        return self.publish_all(publications)

    def start(self) -> Deferred[Any]:
        """Begin to work; called by the service when it starts. Fires when messages come in.

        Raises ValueError at once where the options cannot be met.
        """
        if self.settings["history-file"] and not self.hub.durable:
            raise ValueError(f"--history-file goes with --broker=http, not with {self.name}")
        self.hub.start()
        self.interests.start()
        self.hub.presence.start(self._report_presence, lambda: self.available)
        connected = maybeDeferred(self.connect).addErrback(self._bug, "connect")
        if self.hub.presence.is_wanted and type(self).control is not Broker.control:
            return Deferred.fromCoroutine(self._learn_presence(connected))
        return connected

    async def _learn_presence(self, connected: Deferred[Any]) -> None:
        """Wait until the other servers have reported their members, but not for a broker that is away."""
        await connected
        for _ in range(PRESENCE_TRIES):
            if self.available:
                break
            await deferLater(self.reactor, PRESENCE_WAIT / PRESENCE_TRIES)
        self.hub.presence.ask()
        await deferLater(self.reactor, PRESENCE_WAIT)

    def _report_presence(self, message: Mapping[str, Any]) -> Deferred[Any]:
        # What is lost while the broker is away is asked for by the others when it is back.
        return maybeDeferred(self.control, {"presence": message}).addErrback(
            lambda failure: failure.trap(Unavailable)
        )

    async def stop(self) -> None:
        """End the work: what was published goes out, the streams end."""
        await self.hub.idle()
        self.hub.end(Ending.DRAINED)
        await self.hub.idle()
        self.hub.stop()
        self.interests.stop()
        await DeferredList(self.hub.presence.stop())
        await maybeDeferred(self.disconnect).addErrback(self._bug, "disconnect")

    def ready(self, channels: Sequence[str], last_event_id: str | None = None) -> Deferred[Any] | None:
        """Subscribe to these channels if need be. None when the upstream already sends what is
        published in them; else a Deferred that fires when it does, or after some time."""
        return self.interests.ready(channels) if self.lingers else None

    def add_client(
        self, client: Any, channels: str | Iterable[str], last_event_id: str | None = None
    ) -> None:
        """Let a client (a handler with its ``subscriber``) hear a channel, or several: first what it
        missed since that id, then what comes."""
        names = [channels] if isinstance(channels, str) else list(channels)
        first = self.hub.subscribe(client.subscriber, names, last_event_id)
        if self.lingers:
            self.interests.keep(first)

    def remove_client(self, client: Any, channels: str | Iterable[str] | None = None) -> None:
        """The reverse of add_client; None: all its channels. Once more does no harm."""
        names = [channels] if isinstance(channels, str) else channels
        last = self.hub.unsubscribe(client.subscriber, names)
        if self.lingers and last:
            self.interests.release(last)

    def position(self) -> str:
        """The id of the present moment, for a client to come back with."""
        return self.hub.position()

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, and how many."""
        return self.hub.stats()

    def send_event(self, client: Any, message: str, eid: str | None = None) -> None:
        """Send an event to one client alone."""
        client.sendEvent(message, eid=eid)

    def _subscribe(self, channel: str) -> None:
        d = maybeDeferred(self.subscribe, channel)
        d.addCallback(lambda _: self.confirmed(channel)).addErrback(self._bug, "subscribe")

    def _unsubscribe(self, channel: str) -> None:
        self.hub.forget(channel)
        maybeDeferred(self.unsubscribe, channel).addErrback(self._bug, "unsubscribe")

    def _bug(self, failure: Failure, hook: str) -> None:
        self.log.failure("{broker}: {hook} failed", failure, broker=self.name, hook=hook)
