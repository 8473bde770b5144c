"""Which names a grant holds."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.access.grant import (
    MAX_INFO,
    MAX_USER,
    PUBLISH_EVERYWHERE,
    Grant,
    Names,
    compact_info,
    user_name,
)


@pytest.mark.parametrize(
    ("glob", "name", "held"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("*", "anything at all", True),
        ("*", "", True),
        ("user-*", "user-", True),
        ("user-*", "user-42", True),
        ("user-*", "xuser-42", False),
        ("*-news", "world-news", True),
        ("*-news", "world-news-2", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "axbxc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("**", "x", True),
        ("a?", "ab", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("a*", "A", False),
    ],
)
def test_only_the_star_stands_for_something_else(glob: str, name: str, held: bool) -> None:
    assert Names([glob]).allows(name, False) is held


@pytest.mark.parametrize(
    ("claim", "pattern", "held"),
    [
        ("news.*", "news.*", True),
        ("*", "news.*", True),
        ("*", "*", True),
        ("news.*", "*", False),
        ("n*", "news.*", False),
        ("news.*", "news.a*", False),
        ("news.*", "news.**", False),
        ("**", "*", False),
    ],
)
def test_a_pattern_is_held_under_its_own_name_only(claim: str, pattern: str, held: bool) -> None:
    assert Grant(subscribe=(claim,)).may_subscribe(pattern) is held


def test_the_broker_says_which_other_names_are_patterns() -> None:
    grant = Grant(subscribe=("news.*", "room.#"))
    assert grant.may_subscribe("news.#")
    assert not grant.may_subscribe("news.#", is_pattern=True)
    assert grant.may_subscribe("room.#", is_pattern=True)


def test_exact_names_are_no_globs() -> None:
    """A room called `*` in an application's answer is that room, not every channel."""
    grant = Grant(subscribe=("*", "user-*", "news"), exact=True)
    assert [grant.may_subscribe(name) for name in ("*", "user-*", "news", "user-1", "x")] == [
        *[True, True, True],
        *[False, False],
    ]
    assert grant.may_subscribe("*", is_pattern=True)
    assert not grant.may_subscribe("news.*", is_pattern=True)


@pytest.mark.parametrize(("value", "name"), [(None, None), ("ann", "ann"), (42, "42"), ("", None)])
def test_a_number_is_a_name_as_text(value: object, name: str | None) -> None:
    assert user_name(value, "sub") == name


@pytest.mark.parametrize("value", [True, 1.5, [], {}])
def test_other_values_are_no_name(value: object) -> None:
    with pytest.raises(ValueError, match="sub is neither text nor"):
        user_name(value, "sub")


@pytest.mark.parametrize(
    ("value", "info"),
    [(None, None), ({"name": "Änn"}, '{"name":"Änn"}'), (0, "0"), ([1, 2], "[1,2]"), ("x", '"x"')],
)
def test_info_is_compact(value: object, info: str | None) -> None:
    assert compact_info(value) == info


def test_names_have_a_bound_and_can_be_sent() -> None:
    assert user_name("ü" * (MAX_USER // 2), "sub")
    with pytest.raises(ValueError, match="sub is longer than 1024 bytes"):
        user_name("ü" * (MAX_USER // 2) + "x", "sub")
    with pytest.raises(ValueError, match="sub contains half of a surrogate pair"):
        user_name("\ud800", "sub")
    with pytest.raises(ValueError, match="info contains half of a surrogate pair"):
        compact_info("\ud800")


def test_info_has_a_bound() -> None:
    assert compact_info("x" * (MAX_INFO - 2))
    with pytest.raises(ValueError, match="longer than 1024 bytes"):
        compact_info("ü" * (MAX_INFO // 2))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_info_is_json_that_browsers_can_read(number: float) -> None:
    with pytest.raises(ValueError, match="NaN or Infinity"):
        compact_info({"score": [number]})


def test_subscribing_and_publishing_are_two_rights() -> None:
    grant = Grant("42", ("a", "b-*"), ("c",))
    assert [grant.may_subscribe(name) for name in ("a", "b-1", "c")] == [True, True, False]
    assert [grant.may_publish(name) for name in ("a", "b-1", "c")] == [False, False, True]
    assert not grant.may_publish_everywhere
    assert PUBLISH_EVERYWHERE.may_publish_everywhere
    assert not Grant().may_subscribe("a")
    assert not Names([])


@given(
    st.text(alphabet="ab*", max_size=8).filter(lambda glob: glob != "*"), st.text(alphabet="ab", max_size=10)
)
def test_globs_agree_with_a_regular_expression(glob: str, name: str) -> None:
    pattern = ".*".join(map(re.escape, glob.split("*")))
    assert Names([glob]).allows(name, False) is bool(re.fullmatch(pattern, name))
