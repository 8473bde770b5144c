"""The AMQP broker: what is published to an exchange reaches the subscribers of every instance.

A channel is a routing key (direct exchange) or a binding key with wildcards (topic); a fanout
exchange sends everything to every channel. A message comes once, and which of our channels it is for is
found here. Its type is AMQP's property ``type``; for a reconnection time AMQP has no place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint

from cyclone_sse.brokers.amqp_pubsub import AmqpPublisherFactory, AmqpSubscriberFactory
from cyclone_sse.brokers.amqp_wire import SPEC
from cyclone_sse.brokers.subscribing import SubscribingBroker
from cyclone_sse.brokers.upstream import LOG_IN_WAIT
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.patterns import Patterns, compile_topic


class AmqpBroker(SubscribingBroker):
    """Has a queue in RabbitMQ, bound to what its clients want to hear."""

    has_heartbeat = False
    carries = frozenset(("event",))

    def __init__(self, settings: Mapping[str, Any], reactor: Any = None) -> None:
        super().__init__(settings, "amqp", reactor)
        settings = self.settings
        self._host: str = settings["amqp-host"]
        self._port: int = settings["amqp-port"]
        self.server = f"RabbitMQ at {self._host}:{self._port}"
        self._kind: str = settings["amqp-exchange-type"]
        self._topics = Patterns(compile_topic)
        how = {
            "vhost": settings["amqp-vhost"],
            "username": settings["amqp-username"],
            "password": settings["amqp-password"],
            "exchange": settings["amqp-exchange-name"],
            "exchange_type": self._kind,
            "channel": settings["amqp-channel"],
            "heartbeat": settings["amqp-heartbeat"],
            "reactor": self.reactor,
        }
        specification = settings["amqp-spec"] or SPEC
        self._subscriber_factory = AmqpSubscriberFactory(
            self.message_received, specification=specification, **how
        )
        # The user's file may have no publisher confirms: AMQP 0-8 knows none.
        self._publisher_factory = AmqpPublisherFactory(self.message_received, **how)

    def is_pattern(self, channel: str) -> bool:
        """Whether the name stands for many channels."""
        return self._kind == "topic" and not {"*", "#"}.isdisjoint(channel.split("."))

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Each kind of connection has its factory."""
        endpoint = HostnameEndpoint(self.reactor, self._host, self._port, timeout=LOG_IN_WAIT)
        factory = self._publisher_factory if publishing else self._subscriber_factory
        return endpoint.connect(factory)

    def subscribe(self, channel: str) -> None:
        """Know it as a pattern, if it is one."""
        if self.is_pattern(channel):
            self._topics.add(channel.encode())
        super().subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """The reverse."""
        self._topics.discard(channel.encode())
        super().unsubscribe(channel)

    def _refuse(self, channel: str, error: Any) -> None:
        self._topics.discard(channel.encode())
        super()._refuse(channel, error)

    def message_received(self, exchange: str, key: str, message: bytes, type: str | None) -> None:
        """A message came in."""
        if exchange.encode() == self._subscriber_factory.control:
            self.obey_json(message)
            return
        channels = self._channels_for(key)
        if channels:
            self.deliver(channels, message, key, _usable(type))

    def _channels_for(self, key: str) -> list[str]:
        """Our channels that a message with this routing key is for."""
        if self._kind == "fanout":
            return [each.channel for each in self.subscriptions]
        found = [] if self.subscriptions.get(key) is None or self.is_pattern(key) else [key]
        topics = (topic.decode() for topic in self._topics.matching(key.encode()))
        return found + [topic for topic in topics if not self.is_pattern_blocked(topic)]


def _usable(type: str | None) -> str | None:
    """The type of a message, unless it cannot be an event's: then the message counts without it."""
    try:
        Publication(("any",), b"", type)
    except ValueError:
        return None
    return type
