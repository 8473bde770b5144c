"""Long work, a slice a turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cyclone_sse.slices import Slices, each
from tests.unit.fakes import TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def test_a_turn_does_one_slice(clock: TurnClock) -> None:
    seen: list[int] = []
    done = Slices(clock).add(each(range(25), seen.append, size=10))
    counts = []
    while not done.called:
        clock.turn()
        counts.append(len(seen))
    assert counts == [10, 20, 25]


def test_works_do_not_overtake_each_other(clock: TurnClock) -> None:
    seen: list[str] = []
    slices = Slices(clock)
    slices.add(each("abc", seen.append, size=1))
    last = slices.add(each("xyz", seen.append, size=1))
    while not last.called:
        clock.turn()
    assert "".join(seen) == "abcxyz"
    assert len(slices) == 0


def test_an_item_that_fails_ends_nothing_else(clock: TurnClock, failures: list[Any]) -> None:
    seen: list[int] = []

    def step(item: int) -> None:
        if item == 2:
            raise RuntimeError
        seen.append(item)

    done = Slices(clock).add(each([1, 2, 3], step))
    clock.turn()
    assert done.called
    assert seen == [1, 3]
    assert len(failures) == 1


def failing() -> Iterator[None]:
    yield
    raise RuntimeError


def test_a_work_that_fails_lets_the_next_start(clock: TurnClock, failures: list[Any]) -> None:
    slices = Slices(clock)
    broken = slices.add(failing())
    seen: list[int] = []
    done = slices.add(each([1], seen.append))
    for _ in range(3):
        clock.turn()
    assert broken.called
    assert done.called
    assert seen == [1]
    assert len(failures) == 1


def test_what_is_added_by_a_step_comes_last(clock: TurnClock) -> None:
    seen: list[str] = []
    slices = Slices(clock)
    slices.add(each("a", lambda _: slices.add(each("b", seen.append))))
    slices.add(each("c", seen.append))
    for _ in range(4):
        clock.turn()
    assert seen == ["c", "b"]
