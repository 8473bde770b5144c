"""The floors of channels without events: they never sink, and there are never too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery import floors as module
from cyclone_sse.delivery.floors import Floors


def test_a_floor_never_sinks() -> None:
    floors = Floors(5)
    assert floors.of("a") == 5
    floors.set("a", 7)
    floors.set("a", 6)
    floors.set("b", 3)
    assert (floors.of("a"), floors.of("b"), floors.of("c")) == (7, 5, 5)
    assert floors.pop("a") == 7
    assert floors.of("a") == 5


def test_what_is_not_known_to_be_complete_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOORS", 1)
    floors = Floors(None)
    floors.set("a", None)
    assert floors.of("a") is None
    floors.set("a", 7)
    assert floors.of("a") == 7
    assert floors.set("b", 8) == "a"
    assert floors.of("a") is None, "rather a gap too many"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 100)), max_size=50))
def test_no_floor_that_is_told_is_too_low(raised: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FLOORS", 3)
        floors, highest = Floors(0), dict.fromkeys("abcdef", 0)
        for name, seq in raised:
            floors.set(name, seq)
            highest[name] = max(highest[name], seq)
            assert len(floors) <= 3
            assert all((floors.of(each) or 0) >= highest[each] for each in highest)
