"""Globs as Redis reads them, binding keys as RabbitMQ does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers.patterns import Patterns, compile_glob, compile_topic, escape_glob


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        (b"news.*", [b"news.", b"news.a\nb", b"news.\xff"], [b"news", b"anews."]),
        (b"*", [b"", b"x"], []),
        (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
        (b"h[ae]llo", [b"hallo", b"hello"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo"], [b"hello"]),
        (b"h[c-a]llo", [b"hbllo"], [b"h-llo", b"hdllo"]),
        (b"a[]b", [], [b"ab", b"a]b", b"a[]b"]),
        (b"a[\\]]", [b"a]"], [b"a\\"]),
        (b"a[bc", [b"ab", b"ac"], [b"a[bc"]),
        (b"\\*\\?x\\", [b"*?x\\"], [b"aax"]),
        (b"a*b*c", [b"abc", b"axbxbxc"], [b"acb", b"abcx"]),
        (b"a.b", [b"a.b"], [b"axb"]),
    ],
)
def test_a_glob_is_read_as_redis_does(pattern: bytes, matches: list[bytes], others: list[bytes]) -> None:
    matcher = compile_glob(pattern)
    assert [name for name in matches + others if matcher(name)] == matches


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        (b"news.*", [b"news.a", b"news."], [b"news", b"news.a.b", b"anews.a"]),
        (b"#", [b"", b"a", b"a.b"], []),
        (b"news.#", [b"news", b"news.a.b"], [b"newsx", b"newsx.a"]),
        (b"#.end", [b"end", b"a.b.end"], [b"aend", b"end.a"]),
        (b"a.#.b", [b"a.b", b"a.x.y.b"], [b"a", b"ab", b"a.xb"]),
        (b"#.#", [b"", b"a", b"a.b"], []),
        (b"*.#.x", [b"a.x", b"x.x", b"a.b.x"], [b"x"]),
        (b"*", [b"a"], [b"", b"a.b"]),
        (b"a+.b", [b"a+.b"], [b"aa.b"]),
    ],
)
def test_a_binding_key_is_read_as_rabbitmq_does(
    pattern: bytes, matches: list[bytes], others: list[bytes]
) -> None:
    matcher = compile_topic(pattern)
    assert [name for name in matches + others if matcher(name)] == matches


def naive(pattern: list[str], words: list[str]) -> bool:
    """AMQP 0-9-1, 3.1.3.3, as it stands there."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return naive(pattern[1:], words) or (bool(words) and naive(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and naive(pattern[1:], words[1:])


@given(st.lists(st.sampled_from("ab*#"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_any_binding_key_is_read_as_it_is_written(pattern: list[str], words: list[str]) -> None:
    key, name = (".".join(each).encode() for each in (pattern, words))
    assert bool(compile_topic(key)(name)) == naive(pattern, words)


@given(st.binary(min_size=1), st.binary())
def test_an_escaped_name_matches_itself_alone(name: bytes, other: bytes) -> None:
    matcher = compile_glob(escape_glob(name))
    assert matcher(name)
    assert bool(matcher(other)) == (other == name)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("matcher", "name"),
    [(compile_glob(b"*a" * 200 + b"b"), b"a" * 5000), (compile_topic(b"#.a." * 100 + b"b"), b"a." * 2500)],
)
def test_a_malicious_pattern_costs_no_power_of_its_length(matcher: object, name: bytes) -> None:
    assert callable(matcher)
    assert not matcher(name)


def test_a_set_answers_in_the_order_of_its_making_and_forgets() -> None:
    patterns = Patterns(compile_glob)
    assert patterns.matching(b"ab") == ()
    for pattern in (b"*b", b"a*", b"x*", b"*b"):
        patterns.add(pattern)
    assert patterns.matching(b"ab") == (b"*b", b"a*")
    assert patterns.matching(b"ab") == (b"*b", b"a*")
    patterns.discard(b"*b")
    patterns.discard(b"never")
    assert patterns.matching(b"ab") == (b"a*",)
    assert (b"a*" in patterns, b"*b" in patterns, len(patterns)) == (True, False, 2)
    assert list(patterns) == [b"a*", b"x*"]
