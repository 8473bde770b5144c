"""What many connections have to do is done in several turns, in order, whatever one of them does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.run_queue import BREAK, RunQueue
from tests.unit.fakes import TurnClock

AT_ONCE = 3
SECONDS = 0.01


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


@pytest.fixture
def queue(clock: TurnClock) -> RunQueue:
    return RunQueue(clock, AT_ONCE, SECONDS)


def test_so_many_run_in_one_turn(clock: TurnClock, queue: RunQueue) -> None:
    ran: list[int] = []

    def run(number: int) -> None:
        ran.append(number)
        if number == 0 and ran.count(0) == 1:
            queue.add(lambda: run(0))  # it has more to do

    for number in range(AT_ONCE + 1):
        queue.add(partial(run, number))
    assert not ran
    assert len(queue) == AT_ONCE + 1
    clock.turn()
    assert ran == list(range(AT_ONCE))
    clock.turn()
    assert ran == [*range(AT_ONCE + 1), 0], "the one that has more to do is the last"
    clock.turn()
    assert not clock.calls
    assert not len(queue)
    queue.add(partial(run, 7))
    clock.turn()
    assert ran[-1] == 7


def test_each_has_one_place(clock: TurnClock, queue: RunQueue) -> None:
    ran: list[str] = []
    first, second = partial(ran.append, "first"), partial(ran.append, "second")
    for run in (first, second, first, second):
        queue.add(run)
    clock.turn()
    assert ran == ["first", "second"]


def test_after_a_long_one_none_is_begun_in_the_same_turn(clock: TurnClock, queue: RunQueue) -> None:
    ran: list[int] = []

    def run(number: int) -> None:
        ran.append(number)
        clock.rightNow += 2 * SECONDS

    for number in range(2):
        queue.add(partial(run, number))
    clock.turn()
    assert ran == [0]
    clock.turn()
    assert ran == [0, 1]


def test_one_that_fails_does_not_stop_the_others(clock: TurnClock, queue: RunQueue) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise SystemExit

    queue.add(fail)
    queue.add(partial(ran.append, "the next"))
    with pytest.raises(SystemExit):
        clock.turn()
    clock.turn()
    assert ran == ["the next"]
    queue.add(partial(ran.append, "a later one"))
    clock.turn()
    assert ran[-1] == "a later one"


def test_there_is_time_until_the_turn_has_taken_too_long(clock: TurnClock, queue: RunQueue) -> None:
    assert queue.acquire()
    for _ in range(20):
        clock.advance(BREAK / 2)
        queue.note_run()
    assert not queue.acquire(), "without a break it is one turn"
    clock.advance(2 * BREAK)
    assert queue.acquire(), "another turn"


def test_once_some_wait_for_time_a_break_ends_no_turn(clock: TurnClock, queue: RunQueue) -> None:
    """It is the time in which the others are read."""
    clock.advance(2 * SECONDS)
    queue.note_run()
    assert not queue.acquire()
    queue.add(queue.note_run)
    clock.rightNow += 2 * BREAK
    assert not queue.acquire()
    clock.turn()
    assert queue.acquire()


def test_what_the_queue_has_run_ends_a_turn(clock: TurnClock, queue: RunQueue) -> None:
    clock.advance(2 * SECONDS)
    queue.note_run()
    assert not queue.acquire()
    queue.add(queue.note_run)
    clock.turn()
    assert queue.acquire()


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_all_run_once_in_order(again: list[int], at_once: int) -> None:
    """again: how many times each asks again while it runs."""
    clock, ran = TurnClock(), list[tuple[int, int]]()
    queue = RunQueue(clock, at_once)

    def make(number: int, left: int) -> Callable[[], None]:
        def run() -> None:
            ran.append((number, left))
            if left:
                queue.add(make(number, left - 1))

        return run

    for number, left in enumerate(again):
        queue.add(make(number, left))
    turns = 0
    while clock.calls:
        before = len(ran)
        clock.turn()
        turns += 1
        assert len(ran) - before <= at_once
    assert len(ran) == sum(again) + len(again)
    for number, left in enumerate(again):
        assert [each for each in ran if each[0] == number] == [(number, n) for n in range(left, -1, -1)]
    firsts = [number for number, left in ran if left == again[number]]
    assert firsts == sorted(firsts)
