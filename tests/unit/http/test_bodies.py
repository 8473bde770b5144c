"""What a body holds, by its Content-Type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.bodies import Body, read_body


def request(kind: str | None = None, body: bytes = b"", **more: Any) -> Any:
    headers = {} if kind is None else {"Content-Type": kind}
    fields = {"form": {}, "arguments": {}, **more}
    return SimpleNamespace(headers=headers, body=body, **fields)


def test_a_form_comes_before_the_query() -> None:
    form = {"message": ["x"], "key": ["old", "k"]}
    arguments = {"channel": ["a"], "message": ["q", "x"], "key": ["q", "old", "k"]}
    body_read = read_body(request("application/x-www-form-urlencoded", b"x", form=form, arguments=arguments))
    assert list(body_read.form or ()) == ["message", "key", "channel"]
    assert (body_read.form or {})["message"] == ["q", "x"]
    assert body_read.key == "k"


def test_the_key_is_not_taken_from_the_query() -> None:
    assert read_body(request(arguments={"key": ["k"]})).key == ""


@pytest.mark.parametrize(
    ("kind", "body", "body_read"),
    [
        ("application/json", b'{"key": "k"}', Body(None, [{"key": "k"}], False, "k")),
        ("Application/JSON;charset=utf-8", b'\xef\xbb\xbf"x"', Body(None, ["x"], False, "")),
        (
            "application/json",
            b'[{"key": "k"}, {"key": "k"}]',
            Body(None, [{"key": "k"}, {"key": "k"}], True, "k"),
        ),
        ("application/json", b'[{"key": "k"}, 1]', Body(None, [{"key": "k"}, 1], True, "")),
        ("application/json", b"[]", Body(None, [], True, "")),
        ("application/x-ndjson", b"1\n \r\n2\r\n", Body(None, [1, 2], True, "")),
        ("application/x-ndjson", b'"\xe2\x80\xa8"', Body(None, ["\u2028"], True, "")),
    ],
)
def test_json(kind: str, body: bytes, body_read: Body) -> None:
    assert read_body(request(kind, body)) == body_read


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", b"{", 400, "this is not JSON"),
        ("application/x-ndjson", b"1\n\n{\n", 400, "index 1: this is not JSON"),
        ("text/plain", b"x", 415, "Content-Type"),
        ("application/json-seq", b"1", 415, "Content-Type"),
        (None, b"x", 415, "Content-Type"),
    ],
)
def test_what_cannot_be_read(kind: str | None, body: bytes, status: int, reason: str) -> None:
    with pytest.raises(Refusal, match=reason) as raised:
        read_body(request(kind, body))
    assert raised.value.status == status
