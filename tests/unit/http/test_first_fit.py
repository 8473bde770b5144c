"""The first name whose size is small enough is found, whatever was added, changed and removed before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.http.first_fit import NEVER, FirstFit

NAMES = [f"name {number}" for number in range(12)]
SIZES = st.one_of(st.integers(1, 9), st.just(NEVER))
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), SIZES)), max_size=80)


def test_each_keeps_its_place_until_it_is_removed() -> None:
    waiting = FirstFit()
    assert waiting.first(100) is None
    for name, size in (("a", 5), ("b", 3), ("c", 3)):
        waiting.set(name, size)
    assert [waiting.first(limit) for limit in (2, 3, 4, 5)] == [None, "b", "b", "a"]
    waiting.set("b", NEVER)
    assert waiting.first(3) == "c"
    waiting.set("b", 3)
    assert waiting.first(3) == "b"
    waiting.discard("b")
    waiting.set("b", 1)
    assert [waiting.first(limit) for limit in (1, 3)] == ["b", "c"], "b is the last now"


@given(STEPS)
def test_the_first_that_fits_is_found(steps: list[tuple[str, float | None]]) -> None:
    waiting, plain = FirstFit(), dict[str, float]()
    for name, size in steps:
        if size is None:
            waiting.discard(name)
            plain.pop(name, None)
        else:
            waiting.set(name, size)
            plain[name] = size
        assert len(waiting) == len(plain)
        for limit in range(11):
            assert waiting.first(limit) == next((each for each in plain if plain[each] <= limit), None)


def test_those_that_were_removed_use_no_memory_for_long() -> None:
    waiting = FirstFit()
    for number in range(1000):
        waiting.set(str(number), number)
        waiting.discard(str(number - 3))
    assert len(waiting) == 3
    assert len(waiting._names) <= 16
