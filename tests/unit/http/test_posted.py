"""What was posted, by its Content-Type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.posted import Posted, read_posted


def request(kind: str | None = None, body: bytes = b"", **more: Any) -> Any:
    headers = {} if kind is None else {"Content-Type": kind}
    fields = {"form": {}, "arguments": {}, **more}
    return SimpleNamespace(headers=headers, body=body, **fields)


def test_a_form_comes_before_the_query() -> None:
    form = {"message": ["x"], "key": ["old", "k"]}
    arguments = {"channel": ["a"], "message": ["q", "x"], "key": ["q", "old", "k"]}
    posted = read_posted(request("application/x-www-form-urlencoded", b"x", form=form, arguments=arguments))
    assert list(posted.form or ()) == ["message", "key", "channel"]
    assert (posted.form or {})["message"] == ["q", "x"]
    assert posted.key == "k"


def test_the_key_is_not_taken_from_the_query() -> None:
    assert read_posted(request(arguments={"key": ["k"]})).key == ""


@pytest.mark.parametrize(
    ("kind", "body", "posted"),
    [
        ("application/json", b'{"key": "k"}', Posted(None, [{"key": "k"}], False, "k")),
        ("Application/JSON;charset=utf-8", b'\xef\xbb\xbf"x"', Posted(None, ["x"], False, "")),
        (
            "application/json",
            b'[{"key": "k"}, {"key": "k"}]',
            Posted(None, [{"key": "k"}, {"key": "k"}], True, "k"),
        ),
        ("application/json", b'[{"key": "k"}, 1]', Posted(None, [{"key": "k"}, 1], True, "")),
        ("application/json", b"[]", Posted(None, [], True, "")),
        ("application/x-ndjson", b"1\n \r\n2\r\n", Posted(None, [1, 2], True, "")),
        ("application/x-ndjson", b'"\xe2\x80\xa8"', Posted(None, ["\u2028"], True, "")),
    ],
)
def test_json(kind: str, body: bytes, posted: Posted) -> None:
    assert read_posted(request(kind, body)) == posted


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
        read_posted(request(kind, body))
    assert raised.value.status == status
