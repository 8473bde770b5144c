"""Globs as Redis reads them, binding keys as RabbitMQ does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.patterns import (
    NAME_MAX,
    canonical_glob,
    canonical_topic,
    check_names,
    compile_glob,
    compile_topic,
    escape_glob,
    is_glob,
)


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
    compiled = compile_glob(pattern)
    assert [name for name in matches + others if compiled.matches(name)] == matches


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
    compiled = compile_topic(pattern)
    assert [name for name in matches + others if compiled.matches(name)] == matches


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
    assert compile_topic(key).matches(name) == naive(pattern, words)


@given(st.binary(min_size=1), st.binary())
def test_an_escaped_name_matches_itself_alone(name: bytes, other: bytes) -> None:
    compiled = compile_glob(escape_glob(name))
    assert compiled.matches(name)
    assert compiled.matches(other) == (other == name)


def stringmatch(pattern: bytes, name: bytes) -> bool:
    """Redis' own function, step by step, for patterns without brackets."""
    if not pattern:
        return not name
    if pattern[:1] == b"*":
        return stringmatch(pattern[1:], name) or (bool(name) and stringmatch(pattern, name[1:]))
    if pattern[:1] == b"\\" and len(pattern) > 1:
        pattern = pattern[1:]
    elif pattern[:1] == b"?":
        return bool(name) and stringmatch(pattern[1:], name[1:])
    return pattern[:1] == name[:1] and stringmatch(pattern[1:], name[1:])


GLOBS = st.text("ab*?\\", max_size=8).map(str.encode)


@given(GLOBS, st.text("ab*", max_size=6).map(str.encode))
def test_any_glob_is_read_as_it_is_written(pattern: bytes, name: bytes) -> None:
    assert compile_glob(pattern).matches(name) == stringmatch(pattern, name)


def test_a_name_without_a_star_is_no_glob() -> None:
    assert [is_glob(name) for name in ("a*", "a?", "a")] == [True, False, False]


@given(st.text("a*?[]^\\-", max_size=10), st.text("a*[]-", max_size=6))
def test_a_canonical_glob_stands_for_the_same_names(pattern: str, name: str) -> None:
    canonical = canonical_glob(pattern)
    assert canonical_glob(canonical) == canonical
    matches = compile_glob(pattern.encode()).matches(name.encode())
    assert compile_glob(canonical.encode()).matches(name.encode()) == matches


@pytest.mark.parametrize(
    ("pattern", "canonical"),
    [("**", "*"), ("a***b**", "a*b*"), ("\\**", "\\**"), ("\\***", "\\**"), ("[**]*", "[**]*"), ("a", "a")],
)
def test_runs_of_stars_are_one(pattern: str, canonical: str) -> None:
    assert canonical_glob(pattern) == canonical


class Counted(bytes):
    """A name that counts how often its symbols are read."""

    reads = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for byte in super().__iter__():
            self.reads += 1
            yield byte


@pytest.mark.parametrize("pattern", [b"*a" * 120 + b"*b", b"*[^a][^a]" * 28, b"*?" * 127, b"*[a-z]" * 40])
def test_a_malicious_pattern_looks_at_each_symbol_once(pattern: bytes) -> None:
    name = Counted(b"b" + b"a" * 254)
    compile_glob(pattern).matches(name)
    assert name.reads <= len(name)


def test_names_are_bounded_in_bytes() -> None:
    check_names([])
    check_names(["a" * NAME_MAX, "\u20ac" * 85])
    for name in ("a" * 256, "\u20ac" * 86, "*[^a]" * 3000, "\ud800" * 86):
        with pytest.raises(ValueError, match="channel's name is longer"):
            check_names(["a", name])


@given(st.lists(st.sampled_from("ab*#"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_a_canonical_binding_key_stands_for_the_same_names(pattern: list[str], words: list[str]) -> None:
    key, name = ".".join(pattern), ".".join(words).encode()
    canonical = canonical_topic(key)
    assert canonical_topic(canonical) == canonical
    assert compile_topic(canonical.encode()).matches(name) == compile_topic(key.encode()).matches(name)


@pytest.mark.parametrize(
    ("pattern", "canonical"),
    [
        ("#.#", "#"),
        ("#.*.#.*.#", "*.*.#"),
        ("a.#.*.b.*.#.c", "a.*.#.b.*.#.c"),
        ("#.a", "#.a"),
        ("*", "*"),
        ("a..b.", "a..b."),
        ("", ""),
    ],
)
def test_wildcards_in_a_run_have_one_order(pattern: str, canonical: str) -> None:
    assert canonical_topic(pattern) == canonical
