"""Globs of channel names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.globs import Glob


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("user-*", "user-", True),
        ("user-*", "use", False),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "ac", False),
        ("[x]*", "xy", False),
    ],
)
def test_matches(glob: str, name: str, expected: bool) -> None:
    assert Glob(glob).matches(name) is expected


@given(st.text("ab*"), st.text("ab"))
def test_it_says_what_a_regular_expression_says(glob: str, name: str) -> None:
    expression = ".*".join(map(re.escape, glob.split("*")))
    assert Glob(glob).matches(name) is bool(re.fullmatch(expression, name))
