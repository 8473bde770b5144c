"""The patterns to which clients are subscribed."""

from __future__ import annotations

import pytest

from cyclone_sse.delivery.automaton import Automaton
from cyclone_sse.delivery.pattern_index import PatternIndex


def test_it_finds_the_patterns_that_match_a_channel() -> None:
    index = PatternIndex()
    for name in ("news.*", "*.it", "other*"):
        index.add(name)
    assert set(index.matching("news.it")) == {"news.*", "*.it"}
    assert "news.*" in index
    index.discard("news.*")
    assert "news.*" not in index
    assert index.matching("news.it") == ("*.it",)
    assert len(index) == 2


def test_what_is_blocked_matches_nothing() -> None:
    index = PatternIndex(lambda name: name == "*")
    index.add("*")
    index.add("a*")
    assert index.matching("ab") == ("a*",)


def test_the_answer_for_a_channel_is_remembered_until_the_set_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = PatternIndex()
    for number in range(100):
        index.add(f"*{number}")
    read: list[bytes] = []
    find = Automaton.matching

    def matching(automaton: Automaton[str], name: bytes) -> list[str]:
        read.append(name)
        return find(automaton, name)

    monkeypatch.setattr(Automaton, "matching", matching)
    for _ in range(3):
        assert set(index.matching("user-17")) == {"*7", "*17"}
    assert read == [b"user-17"]
    index.add("user*")
    assert set(index.matching("user-17")) == {"*7", "*17", "user*"}
    index.discard("*7")
    assert set(index.matching("user-17")) == {"*17", "user*"}
    assert len(read) == 3


def test_it_costs_more_to_compare_with_more_and_longer_patterns() -> None:
    index = PatternIndex()
    index.add("news.*")
    assert index.cost == index.cost_of("news.it") == 1, "a look-up"
    index.add("*a")
    few = index.cost
    for number in range(1000):
        index.add(f"*{number}{'?' * 200}*")
    assert index.cost > 10 * few
    assert index.cost_of("news.it") < index.cost_of("news.it" * 10) < index.cost
