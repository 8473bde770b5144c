"""How many events a second a user may publish."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.kinds import Kind
from cyclone_sse.delivery.rates import USERS, Rates

FIVE = Kind(publish_rate=5)


def test_bursts_of_twice_the_rate_pass() -> None:
    rates = Rates()
    assert [rates.spend("42", {FIVE: 1}, 0.0) for _ in range(10)] == [0.0] * 10
    assert rates.spend("42", {FIVE: 1}, 0.0) > 0
    assert rates.spend("43", {FIVE: 1}, 0.0) == 0
    assert rates.spend("42", {FIVE: 1}, 0.2) == 0


def test_what_is_refused_is_not_counted() -> None:
    rates = Rates()
    assert rates.spend("42", {FIVE: 11}, 0.0) > 0
    assert rates.spend("42", {FIVE: 10}, 0.0) == 0


def test_more_than_a_burst_never_passes() -> None:
    rates = Rates()
    assert rates.spend("42", {FIVE: 11}, 0.0) == inf
    assert rates.spend("42", {FIVE: 10}, 0.0) == 0


def test_what_one_kind_refuses_is_not_counted_for_the_others() -> None:
    rates = Rates()
    slow = Kind(publish_rate=0.1)
    assert rates.spend("42", {FIVE: 1, slow: 1}, 0.0) == 0
    for _ in range(20):
        assert rates.spend("42", {FIVE: 1, slow: 1}, 0.0) > 0
    assert rates.spend("42", {FIVE: 9}, 0.0) == 0


def test_a_kind_without_a_rate_has_no_limit() -> None:
    assert Rates().spend("42", {Kind(): 1_000_000}, 0.0) == 0


def test_a_rate_below_one_lets_single_events_pass() -> None:
    rates = Rates()
    slow = Kind(publish_rate=0.1)
    assert rates.spend("42", {slow: 1}, 0.0) == 0
    assert rates.spend("42", {slow: 1}, 5.0) > 0
    assert rates.spend("42", {slow: 1}, 10.1) == 0


def test_users_without_end_do_not_fill_memory() -> None:
    rates = Rates()
    for number in range(USERS + 100):
        rates.spend(str(number), {FIVE: 1}, 0.0)
    assert len(rates._left) == USERS


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 12)), max_size=50))
def test_no_user_publishes_more_than_the_rate_and_one_burst(steps: list[tuple[float, int]]) -> None:
    rates = Rates()
    now, published = 0.0, 0
    for pause, events in steps:
        now += pause
        if not rates.spend("42", {FIVE: events}, now):
            published += events
    assert published <= 5 * now + 10 + 1e-6


@given(st.integers(1, 10))
def test_the_wait_is_long_enough(events: int) -> None:
    rates = Rates()
    rates.spend("42", {FIVE: 10}, 0.0)
    wait = rates.spend("42", {FIVE: events}, 0.0)
    assert rates.spend("42", {FIVE: events}, wait + 1e-9) == 0
