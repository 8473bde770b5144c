"""Where messages come from: the base that all brokers share, and one file for each kind.

The names that custom applications import from here. Redis and AMQP are imported when they are
first asked for, so that a server with the HTTP broker loads neither library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclone_sse.brokers.base import Broker, BrokerUnavailable
from cyclone_sse.brokers.http import HttpBroker

if TYPE_CHECKING:
    from cyclone_sse.brokers.amqp import AmqpBroker
    from cyclone_sse.brokers.redis import RedisBroker
    from cyclone_sse.brokers.redis_stream import RedisStreamBroker

# What --broker may name. A broker's library is imported only when it is the one.
BROKERS = {
    "http": "HttpBroker",
    "redis": "RedisBroker",
    "redis-stream": "RedisStreamBroker",
    "amqp": "AmqpBroker",
}

__all__ = [
    "BROKERS",
    "AmqpBroker",
    "Broker",
    "BrokerUnavailable",
    "HttpBroker",
    "RedisBroker",
    "RedisStreamBroker",
]


def __getattr__(name: str) -> Any:
    if name == "RedisBroker":
        from cyclone_sse.brokers.redis import RedisBroker

        return RedisBroker
    if name == "RedisStreamBroker":
        from cyclone_sse.brokers.redis_stream import RedisStreamBroker

        return RedisStreamBroker
    if name == "AmqpBroker":
        from cyclone_sse.brokers.amqp import AmqpBroker

        return AmqpBroker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
