"""Items that are left for later calls: each is popped once, in order, and never too many in one call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.backlog import Backlog

steps = st.lists(st.one_of(st.lists(st.integers(), max_size=5), st.integers(1, 4)), max_size=30)


@given(steps)
def test_each_item_is_popped_once_and_in_order(script: list[list[int] | int]) -> None:
    """A list is added; a number is the most that a call may pop."""
    backlog: Backlog[int] = Backlog()
    waiting: list[int] = []
    for step in script:
        if isinstance(step, list):
            backlog.add(step)
            waiting += step
        else:
            assert backlog.pop_some(step) == waiting[:step]
            del waiting[:step]
        assert backlog or not waiting
    while backlog:
        waiting = waiting[len(backlog.pop_some(2)) :]
    assert not waiting


def test_an_item_is_read_when_it_is_popped() -> None:
    items = iter(range(5))
    backlog: Backlog[int] = Backlog()
    backlog.add(items)
    assert backlog.pop_some(2) == [0, 1]
    assert list(items) == [2, 3, 4]
