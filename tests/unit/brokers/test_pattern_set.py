"""The patterns that are subscribed upstream: what each would find, and what a name costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers import pattern_set
from cyclone_sse.brokers.pattern_set import PatternSet
from cyclone_sse.patterns import Pattern, compile_glob, compile_topic
from tests.unit.test_patterns import GLOBS, Counted

TOPICS = st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=5).map(
    lambda words: ".".join(words).encode()
)


def test_a_set_knows_its_members_and_forgets() -> None:
    patterns = PatternSet(compile_glob)
    assert patterns.matching(b"ab") == ()
    for pattern in (b"*b", b"a*", b"x*", b"*b"):
        patterns.add(pattern)
    assert set(patterns.matching(b"ab")) == {b"*b", b"a*"}
    assert set(patterns.matching(b"ab")) == {b"*b", b"a*"}
    patterns.discard(b"*b")
    patterns.discard(b"never")
    assert patterns.matching(b"ab") == (b"a*",)
    assert (b"a*" in patterns, b"*b" in patterns, len(patterns)) == (True, False, 2)
    assert list(patterns) == [b"a*", b"x*"]


@given(
    st.lists(GLOBS, max_size=8),
    st.lists(TOPICS, max_size=8),
    st.text("ab", max_size=5).map(str.encode),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=5).map(lambda words: ".".join(words).encode()),
)
def test_a_set_finds_what_each_of_its_patterns_would(
    globs: list[bytes], topics: list[bytes], name: bytes, key: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern_set, "_TOGETHER", 2)
        for compile, members, sought in ((compile_glob, globs, name), (compile_topic, topics, key)):
            patterns = PatternSet(compile)
            for member in members:
                patterns.add(member)
            for member in members[::3]:
                patterns.discard(member)
            for member in members[::6]:
                patterns.add(member)
            left = {member for member in members if member in patterns and compile(member).matches(sought)}
            assert sorted(patterns.matching(sought)) == sorted(left)


def test_patterns_that_begin_otherwise_cost_nothing() -> None:
    compiled = []

    def count(pattern: bytes) -> Pattern:
        compiled.append(compile_glob(pattern))
        return compiled[-1]

    patterns = PatternSet(count)
    for n in range(2000):
        patterns.add(b"other%d.*x" % n)
    patterns.add(b"news.*")
    name = Counted(b"news.today")
    assert patterns.matching(name) == (b"news.*",)
    assert name.reads == 0


def test_a_name_is_read_a_few_times_for_a_thousand_patterns_without_a_prefix() -> None:
    globs, topics = PatternSet(compile_glob), PatternSet(compile_topic)
    for n in range(1000):
        globs.add(b"*o*%d*" % n)
        topics.add(b"#.*.#.%d" % n)
    name = Counted(b"news.today.17")
    assert b"*o*17*" in globs.matching(name)
    assert name.reads <= len(name)
    words = CountedWords([b"news", b"today", b"17"])
    topics._split = lambda name: words
    assert topics.matching(b"news.today.17") == (b"#.*.#.17",)
    assert words.reads <= 3


class CountedWords(list[bytes]):
    """Words that count how often they are read."""

    reads = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for word in super().__iter__():
            self.reads += 1
            yield word


def test_room_is_used_again() -> None:
    patterns = PatternSet(compile_topic)
    for n in range(640):
        patterns.add(b"#.%d" % n)
    for n in range(0, 640, 2):
        patterns.discard(b"#.%d" % n)
    for n in range(1000, 1320):
        patterns.add(b"#.%d" % n)
    assert len(list(patterns._by_prefix.matching(b""))) == 10


def test_patterns_that_come_and_go_leave_nothing() -> None:
    patterns = PatternSet(compile_topic)
    for n in range(300):
        patterns.add(b"#.%d" % n)
    for n in range(300):
        patterns.discard(b"#.%d" % n)
    assert patterns.matching(b"x.17") == ()
    assert not patterns._with_room
    assert not list(patterns._by_prefix.matching(b""))
