"""The figures of a server in Prometheus' text format.

The server counts in plain integers, and converts them into metrics only for a scrape, which costs a walk over
about fifty figures. No label has a channel, a user or an address, since their number is not limited.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cyclone_sse import __version__
from cyclone_sse.access.auth_url import AuthFigures
from cyclone_sse.brokers.base import Broker
from cyclone_sse.counters import BUCKETS, Histogram
from cyclone_sse.daemon.process_figures import process_figures
from cyclone_sse.errors import Ending

PREFIX = "cyclone_sse_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROCESS = {
    "cpu_seconds_total": "Processor time used, in user and system mode",
    "max_fds": "Maximum number of open files",
    "open_fds": "Open files; each connection is one",
    "resident_memory_bytes": "Memory in use",
    "virtual_memory_bytes": "Address space in use",
    "start_time_seconds": "Start of the process, in seconds since the epoch",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of the figures.

    broker: the broker and its hub. connections: how many there are. longest_turn: of the last minute, in
    seconds. certificate_expiry: in seconds since the epoch, None without TLS. auth: the requests to
    ``--auth-url``, None without it.
    """

    broker: Broker
    connections: Callable[[], int]
    longest_turn: Callable[[], float] = lambda: 0.0
    certificate_expiry: Callable[[], float | None] = lambda: None
    auth: Callable[[], AuthFigures | None] = lambda: None


class Metrics:
    """A collector of prometheus_client."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics, as text for a scrape."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Return nothing. Without this, registering would collect the metrics."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        build = GaugeMetricFamily(
            PREFIX + "build_info", "Always 1; the labels name the versions", labels=["version", "python"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield from self._gauges()
        yield from self._totals()
        counters = self._sources.broker.hub.counters
        yield _histogram("publish_seconds", "Time until a publisher is answered", counters.publish_seconds)
        yield _histogram(
            "fanout_seconds",
            "Time from publishing an event to sending it to the last client",
            counters.fanout_seconds,
        )
        yield from self._auth()
        yield from _process()

    def _gauges(self) -> Iterator[Metric]:
        for name, (text, value) in gauges(self._sources).items():
            if value is not None:
                yield GaugeMetricFamily(PREFIX + name, text, value)

    def _totals(self) -> Iterator[Metric]:
        counters = self._sources.broker.hub.counters
        for name, text, value in (
            ("events", "Events accepted, from any source", counters.events),
            ("deliveries", "Events sent to clients, counted for each client", counters.deliveries),
            ("sent_bytes", "Bytes of events sent to clients", counters.sent_bytes),
            ("subscribes", "Streams that were opened", counters.subscribes),
            ("broker_reconnects", "Reconnections to the broker", counters.broker_reconnects),
        ):
            yield CounterMetricFamily(PREFIX + name, text, value)
        resumes = {"complete": counters.resumes_complete, "gap": counters.resumes_gap}
        yield _labelled("resumes", "Clients that resumed, by result", "result", resumes)
        reasons = {ending.value: counters.disconnects[ending.value] for ending in Ending}
        yield _labelled("disconnects", "Streams that ended, by reason", "reason", reasons)
        refusals = {str(status): count for status, count in sorted(counters.refusals.items())}
        yield _labelled("refusals", "Requests that were refused, by HTTP status", "status", refusals)

    def _auth(self) -> Iterator[Metric]:
        figures = self._sources.auth()
        if figures is None:
            return
        yield GaugeMetricFamily(
            PREFIX + "auth_requests_in_flight", "Requests to --auth-url under way", figures.under_way
        )
        answers = dict(sorted(figures.answers.items()))
        yield _labelled("auth_requests", "Requests to --auth-url, by HTTP status", "status", answers)
        yield _histogram("auth_seconds", "Time until --auth-url answered", figures.seconds)


def gauges(sources: Sources) -> dict[str, tuple[str, float | None]]:
    """The values of this moment by name, each with its help text; None: there is no such figure here."""
    broker = sources.broker
    hub = broker.hub
    slow = hub.slow_clients()
    return {
        "connections": ("Connections that are open, of all kinds", sources.connections()),
        "subscribers": ("Clients that are subscribed", len(hub.clients)),
        "slow_clients": ("Clients that read more slowly than events arrive", len(slow)),
        "waiting_bytes": ("Bytes that wait for slow clients", sum(client.waiting_bytes for client in slow)),
        "channels": ("Channels that have subscribers", len(hub.channels)),
        "history_events": ("Events that are kept", hub.history.events),
        "history_bytes": ("Bytes of the events that are kept", hub.history.bytes),
        "journal_waiting_bytes": (
            "Bytes of events that are not yet in the history file",
            hub.publishing.journal_waiting_bytes,
        ),
        "stream_lag_entries": ("Entries of the Redis stream not yet read", getattr(broker, "lag", None)),
        "broker_connected": ("1 while the broker can be reached", int(broker.available)),
        "longest_turn_seconds": (
            "The longest turn of the reactor in the last minute",
            round(sources.longest_turn(), 4),
        ),
        "certificate_expiry_timestamp_seconds": (
            "Expiry of the certificate, in seconds since the epoch",
            sources.certificate_expiry(),
        ),
    }


def _process() -> Iterator[Metric]:
    for name, value in process_figures().items():
        if name.endswith("_total"):
            yield CounterMetricFamily(f"process_{name.removesuffix('_total')}", _PROCESS[name], value)
        else:
            yield GaugeMetricFamily(f"process_{name}", _PROCESS[name], value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, BUCKETS), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=histogram.total)
