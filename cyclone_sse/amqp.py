"""AMQP connections under the name by which custom applications import them."""

from __future__ import annotations

from cyclone_sse.brokers.amqp_subscriber import AmqpSubscriberFactory, AmqpSubscriberProtocol

__all__ = ["AmqpSubscriberFactory", "AmqpSubscriberProtocol"]
