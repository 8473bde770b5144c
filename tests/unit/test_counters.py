"""The figures behind the metrics."""

from __future__ import annotations

from cyclone_sse.counters import BUCKETS, Histogram


def test_a_duration_falls_into_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1] + 1):
        histogram.observe(seconds)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[-1] == 1
    assert sum(histogram.counts) == 4
    assert histogram.total == BUCKETS[0] * 2.01 + BUCKETS[-1] + 1
