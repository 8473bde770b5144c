"""The present figures for the operator's page, as one JSON object a second.

Totals are those since the start; the page computes rates. Costs a walk over thirty figures; the largest
channels are searched in slices, every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from heapq import nlargest
from typing import Any, Protocol

from cyclone_sse import __version__
from cyclone_sse.daemon.metrics import Sources, gauges
from cyclone_sse.daemon.process_figures import process_figures
from cyclone_sse.slices import Slices

TOP = 10  # channels
TOP_INTERVAL = 5.0  # seconds between two looks for the largest channels
_SLICE = 5000  # channels looked at in one turn
# The figures that have the names of the metrics.
_SHARED = (
    "connections",
    "subscribers",
    "waiting_bytes",
    "longest_turn_seconds",
    "channels",
    "history_events",
    "history_bytes",
)


class AdminService(Protocol):
    """The service, as far as the admin port knows it."""

    application: Any
    settings: Any
    reactor: Any

    def not_ready(self) -> list[str]:
        """The reasons why the server must not receive clients; none if it may."""

    def sources(self) -> Sources:
        """The sources of its figures."""


class Figures:
    """The figures of one server. clock: Unix time."""

    def __init__(self, service: AdminService, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock
        self._started = clock()
        self._slices = Slices(service.reactor)
        self._top: list[tuple[str, int]] = []
        self._next_top = 0.0

    def now(self) -> dict[str, Any]:
        """All figures, as values of a JSON object."""
        self._look_for_top()
        broker = self._service.application.broker
        counters = broker.hub.counters
        process = process_figures()
        shared = {name: value for name, (_, value) in gauges(self._service.sources()).items()}
        return {
            "version": __version__,
            "time": self._clock(),
            "started": self._started,
            "not_ready": self._service.not_ready(),
            "broker": {"name": broker.name, "connected": broker.available},
            **{name: shared[name] for name in _SHARED},
            "slow": shared["slow_clients"],
            "events": counters.events,
            "deliveries": counters.deliveries,
            "sent_bytes": counters.sent_bytes,
            "subscribes": counters.subscribes,
            "disconnects": dict(counters.disconnects),
            "refusals": {str(status): count for status, count in counters.refusals.items()},
            "memory_bytes": process.get("resident_memory_bytes", 0),
            "processor_seconds": process["cpu_seconds_total"],
            "open_files": process.get("open_fds", 0),
            "certificate_expires": shared["certificate_expiry_timestamp_seconds"],
            "top": self._top,
        }

    def _look_for_top(self) -> None:
        now = self._service.reactor.seconds()
        if now >= self._next_top and not len(self._slices):
            self._next_top = now + TOP_INTERVAL
            self._slices.add(self._find_top())

    def _find_top(self) -> Iterator[None]:
        channels = self._service.application.broker.hub.channels
        names = channels.names()
        largest: list[tuple[str, int]] = []
        for start in range(0, len(names), _SLICE):
            counts = [(name, channels.count(name)) for name in names[start : start + _SLICE]]
            largest = nlargest(TOP, [*largest, *counts], key=lambda row: row[1])
            yield
        self._top = [row for row in largest if row[1]]
