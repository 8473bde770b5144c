"""The reactor measures its delays by a clock that nobody sets."""

from __future__ import annotations

import time

import pytest
from twisted.internet.epollreactor import EPollReactor

from cyclone_sse.daemon.clock import count_monotonic_time


def test_delays_are_measured_by_the_monotonic_clock() -> None:
    reactor = EPollReactor()
    count_monotonic_time(reactor)
    before = time.monotonic()
    call = reactor.callLater(5, lambda: None)
    assert before + 5 <= call.getTime() <= time.monotonic() + 5
    count_monotonic_time(reactor)  # once more does no harm
    reactor.disconnectAll()


def test_what_waits_by_the_other_clock_is_a_mistake() -> None:
    reactor = EPollReactor()
    reactor.callLater(5, lambda: None)
    with pytest.raises(RuntimeError, match="scheduled"):
        count_monotonic_time(reactor)
    reactor.disconnectAll()
