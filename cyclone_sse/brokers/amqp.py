"""The AMQP broker: messages that are published to an exchange reach the subscribers of every server.

A channel is a routing key (direct exchange) or a binding key with wildcards (topic); a fanout exchange sends
every message to every channel. A message arrives once, and this module finds its channels: those that match
the routing key or the header ``CC``. The type of an event is AMQP's property ``type``; AMQP cannot transmit a
reconnection time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from cyclone_sse.brokers.amqp_protocol import HEARTBEAT_TYPE, AmqpError, AmqpMessage
from cyclone_sse.brokers.amqp_publisher import AmqpPublisherFactory
from cyclone_sse.brokers.amqp_subscriber import AmqpSubscriberFactory, AmqpSubscriberProtocol
from cyclone_sse.brokers.amqp_wire import SPEC
from cyclone_sse.brokers.broker_tls import BrokerTls
from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.pattern_set import PatternSet
from cyclone_sse.brokers.subscribing import SubscribingBroker
from cyclone_sse.brokers.upstream import LOG_IN_WAIT
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.options import has_subscriber_rule
from cyclone_sse.patterns import canonical_topic, compile_topic

MAX_SEEN = 100_000  # message ids that are remembered
_FORGOTTEN_AT_ONCE = 100  # message ids, for each message: less than 0.1 ms, and many messages come in a turn


class AmqpBroker(SubscribingBroker[AmqpSubscriberProtocol]):
    """Receives from a queue in RabbitMQ, which is bound to the channels of the clients.

    Raises ValueError if the options cannot be met.
    """

    carries = frozenset(("event", "ttl", "except", "keep"))

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime | None = None) -> None:
        super().__init__(settings, "amqp", reactor)
        settings = self.settings
        self._host: str = settings["amqp-host"]
        self._port: int = settings["amqp-port"]
        self._tls = BrokerTls(settings) if settings.get("amqp-tls") else None  # of an --amqp-url
        self.server = f"RabbitMQ at {self._host}:{self._port}"
        self._kind: str = settings["amqp-exchange-type"]
        if self._kind == "fanout" and has_subscriber_rule(settings):
            raise ValueError(
                "--amqp-exchange-type=fanout sends every message to every channel, also to private ones: "
                "use direct or topic, or neither tokens nor --auth-url"
            )
        self._topics = PatternSet(compile_topic)
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()  # message ids, and when they came
        how = {
            "vhost": settings["amqp-vhost"],
            "username": settings["amqp-username"],
            "password": settings["amqp-password"],
            "exchange": settings["amqp-exchange-name"],
            "exchange_type": self._kind,
            "channel": settings["amqp-channel"],
            "heartbeat": settings["amqp-heartbeat"],
            "heartbeat_key": f"cyclone-sse-{self._sender}",
            "receive": self.message_received,
            "unroutable": self.heartbeat_returned,
            "reactor": self.reactor,
        }
        specification = settings["amqp-spec"] or SPEC
        self._subscriber_factory = AmqpSubscriberFactory(_ignore, specification=specification, **how)
        # The user's file may have no publisher confirms: AMQP 0-8 has none.
        self._publisher_factory = AmqpPublisherFactory(_ignore, **how)

    @property
    def has_heartbeat(self) -> bool:  # type: ignore[override]
        """Whether the connection for messages receives heartbeats."""
        return self._link is not None and self._link.has_heartbeat

    def is_pattern(self, channel: str) -> bool:
        """Whether the name stands for many channels."""
        return self._kind == "topic" and not {"*", "#"}.isdisjoint(channel.split("."))

    def canonical(self, pattern: str) -> str:
        """Write each run of wildcards with one ``#`` at most."""
        return canonical_topic(pattern)

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Connect with the factory of this kind of connection."""
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self.reactor, self._host, self._port, timeout=LOG_IN_WAIT
        )
        if self._tls is not None:
            endpoint = self._tls.wrap(endpoint, self._host)
        factory = self._publisher_factory if publishing else self._subscriber_factory
        factory.only_checks = self.only_checks
        connecting: Deferred[Any] = endpoint.connect(factory)
        return connecting

    def subscribe(self, channel: str) -> None:
        """Bind the queue to the channel, and match messages with it if it is a pattern."""
        if self.is_pattern(channel):
            self._topics.add(channel.encode())
        super().subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """Remove the binding, and the pattern."""
        self._topics.discard(channel.encode())
        super().unsubscribe(channel)

    def _refuse(self, channel: str, error: NotAllowed) -> None:
        self._topics.discard(channel.encode())
        super()._refuse(channel, error)

    def heartbeat_returned(self, token: str) -> None:
        """End the connection: a heartbeat was returned, so that our queue receives nothing any more."""
        if token in self._heartbeats and self._link is not None:
            self._link.abort(AmqpError("its queue, binding or exchange was deleted"))

    def message_received(self, message: AmqpMessage) -> None:
        """Deliver a message, or note a heartbeat, or obey an order."""
        if message.type == HEARTBEAT_TYPE:
            self._heartbeats.receive(message.body.decode("utf-8", "replace"))
            return
        if message.exchange.encode() == self._subscriber_factory.control:
            self.obey_json(message.body)
            return
        if message.id and not self._note_id(message.id, message.key):  # some libraries send an empty one
            return
        channels = self._channels_for(message)
        if channels:
            self.deliver(
                channels,
                message.body,
                message.key,
                _usable("type", str, message.type),
                ttl=_usable("ttl", float, message.headers.get("ttl")),
                excluded=_usable("excluded", bytes.decode, message.headers.get("except")),
                keep=message.headers.get("keep") in (True, 1, b"1"),
            )

    def _note_id(self, id: str, key: str) -> bool:
        """Note that this id was received; False if it was before, because its publisher tried again."""
        now = self.reactor.seconds()
        expired = now - self.settings["idempotency-ttl"]
        for _ in range(_FORGOTTEN_AT_ONCE):
            first = next(iter(self._seen), None)
            if first is None or (self._seen[first] > expired and len(self._seen) <= MAX_SEEN):
                break
            del self._seen[first]
        if self._seen.get((id, key), expired) > expired:
            return False
        self._seen[id, key] = now
        self._seen.move_to_end((id, key))
        return True

    def _channels_for(self, message: AmqpMessage) -> list[str]:
        """The channels of our clients to which the message belongs."""
        if self._kind == "fanout":
            return [each.channel for each in self.subscriptions]
        found: dict[str, None] = {}
        for key in _keys(message):
            if self.subscriptions.get(key) is not None and not self.is_pattern(key):
                found[key] = None
            topics = (topic.decode() for topic in self._topics.matching(key.encode()))
            found.update((topic, None) for topic in topics if not self.is_pattern_blocked(topic))
        return list(found)


def _keys(message: AmqpMessage) -> list[str]:
    """The routing keys by which a message was routed, including those in RabbitMQ's header CC."""
    copies = message.headers.get("CC")
    listed = copies if isinstance(copies, list) else []
    return [message.key, *(each.decode("utf-8", "replace") for each in listed if isinstance(each, bytes))]


def _ignore(exchange: str, key: str, message: bytes, type: str | None) -> None:
    """Do nothing: every message is passed to ``message_received``."""


def _usable(field: str, read: Callable[[Any], Any], value: object) -> Any:
    """What this reads in the value, if a publication can have it in this field; else None."""
    if value is None:
        return None
    try:
        found: Any = read(value)
        Publication(("any",), b"", **{field: found})
    except (TypeError, ValueError):
        return None
    return found
