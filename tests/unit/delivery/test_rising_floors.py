"""Floors that are raised in slices: every answer is the same as if they had been raised at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery import rising_floors
from cyclone_sse.delivery.history import History
from tests.unit.delivery.test_history import event, gaps, make_history, seq

CHANNELS = "abcd"


def answers(history: History, last: int) -> list[object]:
    return [*map(history.floor, CHANNELS), *(gaps(history, number, CHANNELS) for number in range(last))]


def test_a_channel_that_is_forgotten_meanwhile_does_not_count_as_complete() -> None:
    history = make_history(start=None)
    rising = history.rising.start("ab", seq(1))
    history.forget("a")
    list(rising)
    assert gaps(history, 1, "ab") == ["a"]


def test_floors_from_before_a_reset_are_not_raised_after_it() -> None:
    history = make_history(start=None)
    rising = history.rising.start("ab", seq(5))
    history.clear(seq(1))
    assert gaps(history, 1, "ab") == []
    list(rising)
    assert gaps(history, 1, "ab") == []


@patch.object(rising_floors, "FLOORS_AT_ONCE", 1)
@given(st.data())
def test_no_answer_depends_on_how_far_the_floors_are_raised(data: Any) -> None:
    start = data.draw(st.sampled_from([None, 0]))
    at_once, sliced = make_history(size=2, start=start), make_history(size=2, start=start)
    under_way: list[Iterator[None]] = []
    for number in range(1, data.draw(st.integers(2, 20))):
        action = data.draw(st.sampled_from(["append", "gap", "advance", "forget", "clear", "complete"]))
        channels = data.draw(st.sets(st.sampled_from(CHANNELS), min_size=1))
        if action == "gap":
            for channel in channels:
                at_once.raise_floor(channel, seq(number))
            under_way.append(sliced.rising.start(channels, seq(number)))
        elif action == "advance" and under_way and next(under_way[0], under_way) is not None:
            del under_way[0]
        for history in (at_once, sliced):
            if action == "append":
                history.append(event(number, channels=channels), 0)
            elif action == "clear" and len(channels) == len(CHANNELS):
                history.clear(seq(number))
            elif action == "clear":
                history.clear_channel(min(channels), seq(number))
            elif action == "forget":
                history.forget(min(channels))
            elif action == "complete":
                history.raise_floor(min(channels), seq(number))
        assert answers(sliced, number + 1) == answers(at_once, number + 1)
