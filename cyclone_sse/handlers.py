"""The handlers that custom applications subclass, and the one for statistics.

What a subscription does is in ``subscribe``, what a publication does in ``publish``.
"""

from __future__ import annotations

import json
from typing import Any

from cyclone_sse.broker_handler import BrokerHandler
from cyclone_sse.delivery.publication import channel_names
from cyclone_sse.publish import DisconnectHandler, PublishHandler
from cyclone_sse.subscribe import BroadcastHandler, ExtendedSSEHandler

__all__ = [
    "BroadcastHandler",
    "DisconnectHandler",
    "ExtendedSSEHandler",
    "PublishHandler",
    "StatsHandler",
]


class StatsHandler(BrokerHandler):
    """Stats: ``GET /stats``, how many subscribers each channel has. Override ``get_stats``."""

    def get_stats(self) -> Any:
        """What is sent as JSON: all channels, or those that ``channel`` or ``prefix`` name."""
        rows = self.broker.stats()
        names = set(channel_names(self.request.arguments))
        prefixes = tuple(self.request.arguments.get("prefix", ()))
        if not names and not prefixes:
            return rows
        return [row for row in rows if row[0] in names or (prefixes and row[0].startswith(prefixes))]

    def get(self) -> None:
        """Answer with the figures of this moment."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self.get_stats()))

    head = get
