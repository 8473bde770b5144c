"""The sources of messages: the base class of all brokers, and one module for each kind.

Custom applications import the brokers from here. Redis and AMQP are imported when they are first used, so
that a server with the HTTP broker loads neither library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cyclone_sse.brokers.base import Broker, BrokerUnavailable
from cyclone_sse.brokers.http import HttpBroker

if TYPE_CHECKING:
    from cyclone_sse.brokers.amqp import AmqpBroker
    from cyclone_sse.brokers.redis import RedisBroker
    from cyclone_sse.brokers.redis_stream import RedisStreamBroker

# The values of --broker, and the module of each class.
CLASSES = {
    "http": "cyclone_sse.brokers.http.HttpBroker",
    "redis": "cyclone_sse.brokers.redis.RedisBroker",
    "redis-stream": "cyclone_sse.brokers.redis_stream.RedisStreamBroker",
    "amqp": "cyclone_sse.brokers.amqp.AmqpBroker",
}

__all__ = [
    "CLASSES",
    "AmqpBroker",
    "Broker",
    "BrokerUnavailable",
    "HttpBroker",
    "RedisBroker",
    "RedisStreamBroker",
    "broker_class",
]


def broker_class(name: str) -> type[Broker]:
    """The class of the broker that ``--broker=name`` means."""
    module, _, attribute = CLASSES[name].rpartition(".")
    found: type[Broker] = getattr(import_module(module), attribute)
    return found


def __getattr__(name: str) -> Any:
    for key, dotted in CLASSES.items():
        if dotted.endswith(f".{name}"):
            return broker_class(key)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
