"""Totals since the start, as plain numbers.

They are increased once for each turn of the reactor or each request, never for each send, and other modules
read and show them: so delivery needs no library for metrics. Plain Python.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

# Upper bounds of a histogram's buckets, in seconds: from a quiet publish to a walk over very many clients.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(slots=True)
class Histogram:
    """The number of durations in each of ``BUCKETS``, and above them; and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Counters:
    """The figures of one server since its start."""

    events: int = 0  # accepted, from any source
    deliveries: int = 0  # events sent to clients, counted for each client
    sent_bytes: int = 0  # of events, likewise
    subscribes: int = 0
    resumes_complete: int = 0  # clients that resumed without a gap
    resumes_gap: int = 0  # clients that resumed with a gap
    broker_reconnects: int = 0
    disconnects: Counter[str] = field(default_factory=Counter)  # by the value of `errors.Ending`
    refusals: Counter[int] = field(default_factory=Counter)  # by HTTP status
    publish_seconds: Histogram = field(default_factory=Histogram)  # until the publisher is answered
    # From publishing an event to sending it to the last client.
    fanout_seconds: Histogram = field(default_factory=Histogram)
