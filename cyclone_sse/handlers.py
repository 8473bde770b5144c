"""The handlers that custom applications subclass, and the one for statistics.

Subscriptions are in ``subscribe``, publications in ``publish``.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.brokers.base import Broker
from cyclone_sse.delivery.publication import channel_names
from cyclone_sse.errors import Refusal
from cyclone_sse.publish import DisconnectHandler, PublishHandler
from cyclone_sse.sse_handler import ExtendedSSEHandler
from cyclone_sse.subscribe import BroadcastHandler

MAX_PREFIXES = 10  # each is compared with each channel

__all__ = [
    "BroadcastHandler",
    "DisconnectHandler",
    "ExtendedSSEHandler",
    "PublishHandler",
    "StatsHandler",
]


class StatsHandler(BrokerHandler):
    """Statistics: ``GET /stats``, the number of subscribers of each channel. Override ``get_stats``."""

    def get_stats(self) -> Any:
        """The answer, which is sent as JSON: all channels, or those that ``channel`` or ``prefix`` name."""
        names, prefixes = self._selection()
        rows = self.broker.stats()
        if not names and not prefixes:
            return rows
        return [row for row in rows if row[0] in names or (prefixes and row[0].startswith(prefixes))]

    def get(self) -> Deferred[None] | None:
        """Answer with the figures of this moment; those of very many channels are at most a second old."""
        self.set_header("Cache-Control", "no-store")
        if type(self).get_stats is not StatsHandler.get_stats or type(self.broker).stats is not Broker.stats:
            self.finish(json.dumps(self.get_stats()))
            return None
        names, prefixes = self._selection()
        table = self.broker.hub.stats_table
        stats = table.selection(names, prefixes) if names or prefixes else table.table()
        if isinstance(stats, Deferred):
            return stats.addCallback(self.finish)
        self.finish(stats)
        return None

    head = get

    def _selection(self) -> tuple[list[str], tuple[str, ...]]:
        prefixes = tuple(self.request.arguments.get("prefix", ()))
        if len(prefixes) > MAX_PREFIXES:
            raise Refusal(400, f"more than {MAX_PREFIXES} prefixes")
        return channel_names(self.request.arguments), prefixes
