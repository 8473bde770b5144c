"""The Redis broker: messages that are PUBLISHed in Redis reach the subscribers of every server.

A channel name that contains ``*`` is a pattern (``--patterns``). All channels start with ``--redis-prefix``,
which clients neither see nor can change. Pub/sub keeps no messages: those that are published while this
server or Redis is away are lost. Pub/sub cannot transmit a type either. The broker ``redis-stream`` can do
both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.redis_link import CONTROL, RedisLink, ResponseError
from cyclone_sse.brokers.redis_server import redis_server
from cyclone_sse.brokers.redis_subscriber_link import RedisSubscriberLink
from cyclone_sse.brokers.subscribing import SubscribingBroker
from cyclone_sse.patterns import canonical_glob, is_glob


class RedisBroker(SubscribingBroker[RedisSubscriberLink]):
    """Subscribes in Redis to the channels of its clients."""

    open_patterns = False  # other programs use the same Redis

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime | None = None) -> None:
        super().__init__(settings, "redis", reactor)
        redis = redis_server(self.settings, self.reactor)
        self._redis = redis
        self._prefix: str = self.settings["redis-prefix"] or ""
        self._receives_orders = False
        self.server = redis.name
        self.longest_retry = redis.longest_retry

    @property
    def has_heartbeat(self) -> bool:  # type: ignore[override]
        """Whether heartbeats are received: they are orders."""
        return self._receives_orders

    def is_pattern(self, channel: str) -> bool:
        """Whether the name stands for many channels."""
        return is_glob(channel)

    def canonical(self, pattern: str) -> str:
        """Write each run of stars as one."""
        return canonical_glob(pattern)

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Connect with the class for this purpose: one connection subscribes, another publishes."""
        kind: Any = RedisLink if publishing else partial(RedisSubscriberLink, self.message_received)
        return self._redis.open(kind, self._prefix)

    async def set_up(self, link: RedisSubscriberLink) -> None:
        """Subscribe to orders; a Redis that does not allow it still serves all else."""
        self._receives_orders = False
        try:
            await link.subscribe_to_orders()
        except (NotAllowed, ResponseError) as error:
            self.log.error(
                "{server} does not allow orders between servers, such as those of POST /disconnect: {reason}",
                server=self.server,
                reason=str(error),
            )
        else:
            self._receives_orders = True

    async def check_server(self) -> None:
        """Check whether the sentinels name another master."""
        await self._redis.check(self.current_links())

    def message_received(self, names: Sequence[bytes], channel: bytes, message: bytes) -> None:
        """Deliver a message, or obey an order. names: matching subscriptions. channel: the message's."""
        if channel == CONTROL:
            self.obey_json(message)
            return
        source = channel.decode("utf-8", "backslashreplace")
        channels = [name.decode("utf-8", "backslashreplace") for name in names]
        wanted = [name for name in channels if name == source or not self.is_pattern_blocked(name)]
        if wanted:
            self.deliver(wanted, message, source)
