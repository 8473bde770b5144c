"""The patterns to which clients are subscribed."""

from __future__ import annotations

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


def test_a_name_without_a_star_is_no_pattern() -> None:
    assert PatternIndex.is_pattern("a*")
    assert not PatternIndex.is_pattern("a?")
    assert "a" not in PatternIndex()


def test_what_is_blocked_matches_nothing() -> None:
    index = PatternIndex(lambda name: name == "*")
    index.add("*")
    index.add("a*")
    assert index.matching("ab") == ("a*",)
