"""The HTTP broker: what is POSTed to /publish goes straight to the subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cyclone_sse.brokers.base import Broker
from cyclone_sse.delivery.publication import Publication


class HttpBroker(Broker):
    """Delivers what this process was given itself; there is no upstream that could be away."""

    lingers = False

    def __init__(self, settings: Mapping[str, Any], reactor: Any = None) -> None:
        super().__init__(settings, "http", reactor=reactor)

    def publish_all(self, publications: Sequence[Publication]) -> Sequence[str]:
        """Deliver these events."""
        return [str(self.hub.publish(each).id) for each in publications]
