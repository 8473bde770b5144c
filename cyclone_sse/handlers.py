"""The handlers that custom applications subclass, under the names by which they import them."""

from __future__ import annotations

from cyclone_sse.publish import DisconnectHandler, PublishHandler
from cyclone_sse.queries import StatsHandler
from cyclone_sse.sse_handler import ExtendedSSEHandler
from cyclone_sse.subscribe import BroadcastHandler

__all__ = [
    "BroadcastHandler",
    "DisconnectHandler",
    "ExtendedSSEHandler",
    "PublishHandler",
    "StatsHandler",
]
