"""Items in the order of growing keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.sorted_log import SortedLog

steps = st.lists(st.one_of(st.integers(1, 5), st.integers(-300, -1)), max_size=300)


@given(steps, st.integers(0, 800))
def test_it_reads_on_from_any_key(script: list[int], after: int) -> None:
    """A positive step appends a key that is so much greater; a negative one removes that key."""
    log: SortedLog[str] = SortedLog()
    model: dict[int, str] = {}
    key = 0
    for step in script:
        if step > 0:
            key += step
            log.append(key, str(key))
            model[key] = str(key)
        else:
            assert log.pop(-step) == model.pop(-step, None)
    assert len(log) == len(model)
    assert list(log.after(after)) == [(key, item) for key, item in model.items() if key > after]


def test_keys_that_are_gone_are_freed() -> None:
    log: SortedLog[int] = SortedLog()
    for key in range(1, 10_000):
        log.append(key, key)
        log.pop(key - 100)
    assert len(log) == 100
    assert len(log._keys) <= 2 * len(log) + 66
