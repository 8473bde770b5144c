"""The figures of a server in Prometheus' text format.

They are counted in plain integers where things happen, and turned into metrics only when somebody
asks: a scrape costs a walk over about thirty figures, and what is measured costs nothing. No label
holds a channel, a user or an address: their number has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cyclone_sse.counters import BUCKETS, Histogram
from cyclone_sse.errors import Ending

PREFIX = "cyclone_sse_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A collector, in prometheus_client's sense.

    hub: whose figures. connections: how many there are. connected: whether the broker is.
    """

    def __init__(self, hub: Any, connections: Callable[[], int], connected: Callable[[], bool]) -> None:
        self._hub = hub
        self._connections = connections
        self._connected = connected
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics, as they are scraped."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing: asked for when registered, which must not collect."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        yield from self._gauges()
        yield from self._totals()
        counters = self._hub.counters
        yield _histogram("publish_seconds", "Time until a publisher is answered", counters.publish_seconds)
        yield _histogram(
            "fanout_seconds", "Time from taking an event to the last client's send", counters.fanout_seconds
        )

    def _gauges(self) -> Iterator[Metric]:
        hub = self._hub
        for name, text, value in (
            ("connections", "Connections that are open, of all kinds", self._connections()),
            ("subscribers", "Clients that listen", len(hub.clients)),
            ("channels", "Channels that somebody listens to", len(hub.stats())),
            ("history_events", "Events that are kept", hub.history.events),
            ("history_bytes", "Bytes that the kept events take", hub.history.bytes),
            ("broker_connected", "1 while the broker can be reached", int(self._connected())),
        ):
            yield GaugeMetricFamily(PREFIX + name, text, value)

    def _totals(self) -> Iterator[Metric]:
        counters = self._hub.counters
        for name, text, value in (
            ("events", "Events taken, from whatever source", counters.events),
            ("deliveries", "Events handed to clients, counted for each client", counters.deliveries),
            ("sent_bytes", "Bytes of events handed to clients", counters.sent_bytes),
            ("subscribes", "Streams that were opened", counters.subscribes),
            ("broker_reconnects", "Times that the broker was lost and is back", counters.broker_reconnects),
        ):
            yield CounterMetricFamily(PREFIX + name, text, value)
        resumes = {"complete": counters.resumes_complete, "gap": counters.resumes_gap}
        yield _labelled("resumes", "Clients that came back, by what they missed for good", "result", resumes)
        reasons = {ending.value: counters.disconnects[ending.value] for ending in Ending}
        yield _labelled("disconnects", "Streams that ended, by reason", "reason", reasons)
        refusals = {str(status): count for status, count in sorted(counters.refusals.items())}
        yield _labelled("refusals", "Requests that were refused, by HTTP status", "status", refusals)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, BUCKETS), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=histogram.total)
