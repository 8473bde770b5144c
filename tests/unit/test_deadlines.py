"""Deadlines: never early, late by less than a grain, and nothing forgotten."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.deadlines import Deadlines, grain_for

TIMES = st.floats(0, 1000)


@pytest.mark.parametrize(("seconds", "grain"), [(0.0, 1.0), (0.5, 0.05), (10.0, 1.0), (3600.0, 1.0)])
def test_a_deadline_is_late_by_a_tenth_and_a_second_at_most(seconds: float, grain: float) -> None:
    assert grain_for(seconds) == grain


def test_an_item_is_due_once_and_not_before_its_time() -> None:
    deadlines: Deadlines[str] = Deadlines(1.0)
    deadlines.set("a", 10.5)
    assert deadlines.pop_due(10.6) == []
    assert deadlines.pop_due(11.0) == ["a"]
    assert deadlines.pop_due(100.0) == []
    assert len(deadlines) == 0


def test_the_last_deadline_counts() -> None:
    deadlines: Deadlines[str] = Deadlines(1.0)
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    assert deadlines.pop_due(4.9) == []
    deadlines.set("a", 2.0)
    assert deadlines.pop_due(4.9) == ["a"]
    deadlines.set("a", 9.0)
    deadlines.clear("a")
    deadlines.clear("never there")
    assert deadlines.pop_due(100.0) == []


def test_at_the_end_of_time_all_are_due() -> None:
    deadlines: Deadlines[str] = Deadlines(1.0)
    deadlines.set("a", 2.0)
    deadlines.set("b", 1e9)
    assert deadlines.pop_due(math.inf) == ["a", "b"]
    assert deadlines.pop_due(math.inf) == []


def test_a_bound_leaves_the_rest_for_the_next_time() -> None:
    deadlines: Deadlines[int] = Deadlines(1.0)
    for item in range(10):
        deadlines.set(item, item % 3)
    found = []
    while some := deadlines.pop_due(100.0, most=3):
        assert len(some) <= 3
        found += some
    assert sorted(found) == list(range(10))
    assert [item % 3 for item in found] == sorted(item % 3 for item in found), "the earliest first"


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | TIMES)), st.lists(TIMES), st.floats(0.01, 10))
def test_each_item_comes_between_its_deadline_and_a_grain_later(
    changes: list[tuple[int, float | None]], looks: list[float], grain: float
) -> None:
    deadlines: Deadlines[int] = Deadlines(grain)
    expected: dict[int, float] = {}
    for item, when in changes:
        if when is None:
            deadlines.clear(item)
            expected.pop(item, None)
        else:
            deadlines.set(item, when)
            expected[item] = when
    assert len(deadlines) == len(expected)
    for now in [*sorted(looks), 2000.0]:
        found = deadlines.pop_due(now)
        for item in found:
            assert expected.pop(item) <= now + 1e-6
        assert all(when > now - grain - 1e-6 for when in expected.values())
    assert not expected
