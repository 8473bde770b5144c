"""What an application's answers mean."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.access.answers import HttpAnswer, NoDecision, decide
from cyclone_sse.access.grant import MAX_SECONDS, Grant
from cyclone_sse.errors import Refusal

NOW = 1_000_000.0
BOTH = Grant(None, ("a", "b"), exact=True)


def grant(body: bytes = b"", status: int = 200) -> Grant:
    return decide(HttpAnswer(status, body), ["a", "b"], NOW)


def refusal(answer: HttpAnswer) -> Refusal:
    with pytest.raises(Refusal) as raised:
        decide(answer, ["room-1"], NOW)
    return raised.value


def problem(body: bytes = b"", status: int = 200, location: str | None = None) -> str:
    with pytest.raises(NoDecision) as raised:
        decide(HttpAnswer(status, body, location=location), ["a"], NOW)
    return str(raised.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", BOTH),
        (b"true", BOTH),
        (b"null", BOTH),
        (b" \r\n null\n", BOTH),
        (b"{}", BOTH),
        (codecs.BOM_UTF8, BOTH),
        (codecs.BOM_UTF8 + b'{"channels": ["a"]}', Grant(None, ("a",), exact=True)),
        (b'\n{"channels": ["a"], "more": 1}', Grant(None, ("a",), exact=True)),
        (b'{"channels": []}', Grant(None, (), exact=True)),
        (b'{"channels": ["*"]}', Grant(None, ("*",), exact=True)),
        (b'{"user": "42", "expires": 60}', Grant("42", ("a", "b"), (), NOW + 60, exact=True)),
        (b'{"user": 42, "expires": null}', Grant("42", ("a", "b"), exact=True)),
        (
            b'{"user": "42", "info": {"name": "Ann"}}',
            Grant("42", ("a", "b"), (), None, '{"name":"Ann"}', True),
        ),
    ],
)
def test_a_yes_may_narrow(body: bytes, expected: Grant) -> None:
    assert grant(body) == expected


@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 226])
def test_any_success_without_a_body_is_a_yes(status: int) -> None:
    assert grant(status=status) == BOTH


def test_an_end_far_away_is_bounded() -> None:
    """Without a bound each client was an OverflowError when its deadline was computed."""
    assert grant(b'{"expires": 1e308}').expires == NOW + MAX_SECONDS
    assert grant(b'{"expires": %d}' % 10**4000).expires == NOW + MAX_SECONDS


def test_a_no_is_passed_on() -> None:
    no = refusal(HttpAnswer(401, b"log in", 'Session realm="x"'))
    assert (no.status, no.headers["WWW-Authenticate"]) == (401, 'Session realm="x"')
    assert refusal(HttpAnswer(401)).headers["WWW-Authenticate"] == "Bearer"
    no = refusal(HttpAnswer(403))
    assert no.status == 403
    assert "room-1" in no.reason


@pytest.mark.parametrize(
    ("status", "location", "hint"),
    [
        (301, "https://www.example/", "SECURE_PROXY_SSL_HEADER"),
        (302, "/login", "answer 401 instead"),
        (307, None, "answer 401 instead"),
        (400, None, "ALLOWED_HOSTS"),
        (404, None, "the path"),
        (405, None, "GET"),
        (429, None, "limits"),
        (500, None, "answered 500"),
        (304, None, "answered 304"),
        (199, None, "answered 199"),
    ],
)
def test_any_other_status_decides_nothing(status: int, location: str | None, hint: str) -> None:
    words = problem(b"{}", status, location)
    assert words.startswith(f"answered {status}")
    assert hint in words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"false", "with false"),
        (b"<!DOCTYPE html><title>Shop</title>", "an HTML page"),
        (b"\n<HTML>", "an HTML page"),
        (b"<br />\n<b>Fatal error</b>: no database", "display_errors"),
        (b'<br />\n<b>Notice</b>: x<br />\n{"channels": []}', "display_errors"),
        (b'\nWarning: x in y on line 3\n{"channels": []}', "display_errors"),
        (b"<?xml version='1.0'?>", "markup"),
        (b"welcome", "text that is not JSON"),
        (b"\n", "text that is not JSON"),
        (b"{", "text that is not JSON"),
        (b'{"channels": ["a"]} x', "text that is not JSON"),
        (b"\xff", "text that is not JSON"),
        (b"[" * 60000, "text that is not JSON"),
        (codecs.BOM_UTF16_LE + "{}".encode("utf-16-le"), "text that is not JSON"),
        (b"[]", "a list"),
        (b"1", "a number"),
        (b'"true"', "a text"),
        (b'{"channels": "a"}', "channels is not a list"),
        (b'{"channels": null}', "channels is not a list"),
        (b'{"channels": [1]}', "channels is not a list"),
        (b'{"user": []}', "user is neither"),
        (b'{"user": true}', "user is neither"),
        (b'{"user": 1.5}', "user is neither"),
        (b'{"expires": "60"}', "expires is not"),
        (b'{"expires": 0}', "expires is not"),
        (b'{"expires": -1}', "expires is not"),
        (b'{"expires": 1e999}', "expires is not"),
        (b'{"expires": true}', "expires is not"),
        (json.dumps({"info": "x" * 2000}).encode(), "info is longer"),
    ],
)
def test_no_other_body_decides_anything(body: bytes, words: str) -> None:
    assert words in problem(body)


@given(st.binary(min_size=1))
def test_bytes_that_are_no_json_open_nothing(body: bytes) -> None:
    try:
        decide(HttpAnswer(200, body), ["a"], NOW)
    except NoDecision:
        return
    value = json.loads(body.decode("utf-8-sig") or "null")
    assert value is True or value is None or isinstance(value, dict)
