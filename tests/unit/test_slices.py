"""Long work, a slice a turn."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyclone_sse.slices import Slices, each, finish, finish_in_turns, release
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


def test_what_is_to_be_next_comes_before_what_has_not_begun(clock: TurnClock) -> None:
    seen: list[str] = []
    slices = Slices(clock)
    slices.add(each("abc", seen.append, size=1))
    slices.put_next(each("1", seen.append))
    last = slices.add(each("xyz", seen.append, size=1))
    clock.turn()
    assert seen == ["1"], "nothing had begun"
    clock.turn()
    slices.put_next(each("23", seen.append, size=1))
    slices.add(each(".", seen.append))
    while not last.called:
        clock.turn()
    assert "".join(seen) == "1abc23xyz"
    slices.put_next(each("!", seen.append))
    clock.turn()
    assert "".join(seen) == "1abc23xyz!"


def test_works_of_a_fair_queue_take_turns_and_a_short_one_is_soon_finished(clock: TurnClock) -> None:
    seen: list[str] = []
    slices = Slices(clock, fair=True)
    slices.add(each("abc", seen.append, size=1))
    short = slices.add(each("x", seen.append))
    last = slices.add(each("12345", seen.append, size=1))
    while not last.called:
        clock.turn()
        assert short.called == ("x" in seen)
    assert "".join(seen) == "ax1b2c345"
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


def doubled(numbers: list[int]) -> Generator[None, None, list[int]]:
    found: list[int] = []
    for number in numbers:
        if found:
            yield
        found.append(number * 2)
        if number < 0:
            raise ValueError(number)
    return found


def test_what_one_slice_does_has_its_result_at_once(clock: TurnClock) -> None:
    assert finish_in_turns(doubled([1]), Slices(clock)) == [2]
    assert finish(doubled([1, 2, 3])) == [2, 4, 6]
    with pytest.raises(ValueError, match="-1"):
        finish_in_turns(doubled([-1]), Slices(clock))


def test_the_result_of_more_comes_when_its_turns_are_over(clock: TurnClock) -> None:
    slices = Slices(clock)
    result = finish_in_turns(doubled([1, 2, 3]), slices)
    failing = finish_in_turns(doubled([1, -1]), slices)
    assert isinstance(result, Deferred)
    assert isinstance(failing, Deferred)
    assert not result.called
    for _ in range(5):
        clock.turn()
    assert result.result == [2, 4, 6]
    failures: list[Failure] = []
    failing.addErrback(failures.append)
    assert failures[0].check(ValueError)
    assert not slices


def test_those_that_wait_for_one_thing_are_released_in_turns(clock: TurnClock) -> None:
    waiting: list[Deferred[int]] = [Deferred() for _ in range(5)]
    seen: list[int] = []
    for deferred in waiting:
        deferred.addCallbacks(seen.append, lambda _: None)
    waiting[1].cancel()
    Slices(clock).put(release(waiting, 7, 2))
    clock.turn()
    assert seen == [7]
    waiting[2].cancel()
    clock.turn()
    clock.turn()
    assert seen == [7] * 3
