"""Refusals as clients see them, and why streams end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers import BrokerUnavailable
from cyclone_sse.errors import Ending, StartError, Unavailable, call_each, error_body


@given(st.text())
def test_the_body_of_a_refusal_is_json_in_utf_8(reason: str) -> None:
    assert json.loads(error_body(reason).decode("utf-8")) == {"status": "error", "reason": reason}


def test_the_name_that_custom_applications_know() -> None:
    assert BrokerUnavailable is Unavailable


def test_each_ending_has_a_name_of_its_own() -> None:
    assert len({ending.value for ending in Ending}) == len(Ending.__members__)


def test_a_start_that_fails_ends_the_process_and_can_be_caught() -> None:
    error = StartError("the port is in use")
    assert error.code == "cyclone-sse: the port is in use"
    assert isinstance(error, SystemExit)
    assert isinstance(error, Exception)


def test_what_fails_keeps_nothing_else_from_being_called() -> None:
    called: list[int] = []

    def fail() -> None:
        raise OSError("it cannot be read")

    with pytest.raises(ValueError, match=r"^it cannot be read; invalid literal for int\(\) .* 'x'$"):
        call_each([fail, lambda: int("x"), fail, lambda: called.append(1)])
    assert called == [1]
    call_each([lambda: called.append(2)])
    assert called == [1, 2]
