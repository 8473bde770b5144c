"""A line of each kind is logged once a minute."""

from __future__ import annotations

from twisted.internet.task import Clock

from cyclone_sse.log_limit import LOG_INTERVAL, MAX_KINDS, LogLimit


def test_a_kind_is_logged_at_once_and_then_once_a_minute() -> None:
    clock = Clock()
    limit = LogLimit(clock.seconds)
    logged = [limit.acquire("a"), limit.acquire("b"), limit.acquire("a")]
    clock.advance(LOG_INTERVAL - 1)
    logged.append(limit.acquire("a"))
    clock.advance(1)
    assert [*logged, limit.acquire("a")] == [True, True, False, False, True]


def test_kinds_that_never_end_are_bounded_until_the_minute_is_over() -> None:
    clock = Clock()
    limit = LogLimit(clock.seconds)
    assert sum(limit.acquire(str(number)) for number in range(3 * MAX_KINDS)) == MAX_KINDS
    clock.advance(LOG_INTERVAL)
    assert sum(limit.acquire(str(number)) for number in range(3 * MAX_KINDS)) == MAX_KINDS
