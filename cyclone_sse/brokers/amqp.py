"""The AMQP broker: what is published to an exchange reaches the subscribers of every instance.

A channel is a routing key (direct exchange) or a binding key with wildcards (topic); a fanout
exchange sends everything to every channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint

from cyclone_sse.brokers.amqp_protocol import HEARTBEAT, AmqpPublisherFactory, AmqpSubscriberFactory
from cyclone_sse.brokers.amqp_wire import SPEC
from cyclone_sse.brokers.upstream import GREETING_WAIT, UpstreamBroker


class AmqpBroker(UpstreamBroker):
    """Has a queue in RabbitMQ for each channel that its clients want to hear."""

    def __init__(self, settings: Mapping[str, Any], reactor: Any = None) -> None:
        self._host: str = settings.get("amqp-host") or "127.0.0.1"
        self._port = int(settings.get("amqp-port") or 5672)
        super().__init__(settings, "amqp", f"RabbitMQ at {self._host}:{self._port}", reactor)
        heartbeat = settings.get("amqp-heartbeat")
        self._topic = settings.get("amqp-exchange-type") == "topic"
        how = {
            "vhost": settings.get("amqp-vhost") or "/",
            "username": settings.get("amqp-username") or "guest",
            "password": settings.get("amqp-password") or "guest",
            "exchange": settings.get("amqp-exchange-name") or "sse-cyclone-server",
            "exchange_type": settings.get("amqp-exchange-type") or "direct",
            "channel": settings.get("amqp-channel") or 1,
            "heartbeat": HEARTBEAT if heartbeat is None else heartbeat,
            "reactor": self.reactor,
        }
        specification = settings.get("amqp-spec") or SPEC
        self._subscriber_factory = AmqpSubscriberFactory(self._deliver, specification=specification, **how)
        # The user's file may have no publisher confirms: AMQP 0-8 knows none.
        self._publisher_factory = AmqpPublisherFactory(self._deliver, **how)

    def open(self, publishing: bool) -> Deferred[Any]:
        """Each kind of connection has its factory."""
        endpoint = HostnameEndpoint(self.reactor, self._host, self._port, timeout=GREETING_WAIT)
        factory = self._publisher_factory if publishing else self._subscriber_factory
        return endpoint.connect(factory)

    def _deliver(self, channel: str | bytes, key: str | bytes, message: bytes) -> None:
        name, source = _text(channel), _text(key)
        if self._topic and name != source:
            self.broadcast(name, source, message)
        else:
            self.broadcast(None, name, message)


def _text(raw: str | bytes) -> str:
    """txAMQP gives bytes where a name is not UTF-8, which ours all are."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
