"""What a body holds, by its Content-Type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.errors import Refusal
from cyclone_sse.http import bodies
from cyclone_sse.http.bodies import SHORT, Body, may_hold_key
from cyclone_sse.http.forms import media_type
from cyclone_sse.slices import finish
from cyclone_sse.strict_json import MAX_NESTING
from tests.unit.fakes import headers_of


def request(kind: str | None = None, body: bytes = b"", **more: Any) -> Any:
    headers = headers_of({} if kind is None else {"Content-Type": kind})
    fields = {"arguments": {}, "parameters": more.get("arguments", {}), **more}

    return SimpleNamespace(
        headers=headers,
        body=body,
        media_type=media_type(kind),
        form={},
        **fields,
    )


def read_body(given: Any, max_batch: int = 10) -> Body:
    """The whole body."""
    return finish(bodies.read_body(given, max_batch))


def test_a_form_comes_before_the_query() -> None:
    form = b"message=x&key=old&key=k"
    arguments = {"channel": ["a"], "message": ["q", "x"], "key": ["q", "old", "k"]}
    body_read = read_body(request("application/x-www-form-urlencoded", form, arguments=arguments))
    assert list(body_read.form or ()) == ["message", "key", "channel"]
    assert (body_read.form or {})["message"] == ["q", "x"]
    assert body_read.key == "k"


def test_the_key_is_not_taken_from_the_query() -> None:
    assert read_body(request(arguments={"key": ["k"]})).key == ""


@pytest.fixture(autouse=True, scope="module", params=["short", "long"])
def length(request: pytest.FixtureRequest) -> Iterator[None]:
    """Arrays are decoded in one call, or value by value as long ones are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "long":
            patch.setattr(bodies, "_WHOLE_ARRAY", 0)
        yield


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
        ("application/json", b" [ 1 , [2] ]\n", Body(None, [1, [2]], True, "")),
        ("application/json", b"[" + b"1," * 9 + b"1]", Body(None, [1] * 10, True, "")),
        ("application/x-ndjson", b"1\n" * 10, Body(None, [1] * 10, True, "")),
        ("application/x-ndjson", b"1\n \r\n2\r\n", Body(None, [1, 2], True, "")),
        ("application/x-ndjson", b'"\xe2\x80\xa8"', Body(None, ["\u2028"], True, "")),
    ],
)
def test_json(kind: str, body: bytes, body_read: Body) -> None:
    assert read_body(request(kind, body)) == body_read


BROKEN = (b"", b"1", b"1,]", b",1]", b"1]]", b"1 2]")


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", b"{a: 1}", 400, "this is not JSON: .* line 1 column 2"),
        ("application/json", b"[1,\n2 3]", 400, "this is not JSON: .* line 2 column 2"),
        ("application/json", b"[1]]", 400, "this is not JSON: .* line 1 column 4"),
        ("application/json", b"[NaN]", 400, "^this is not JSON: NaN$"),
        (
            "application/json",
            b"[%s]" % (b"9" * 5000),
            400,
            "^a number in the JSON has more than 4300 digits$",
        ),
        *[
            ("application/json", body, 400, "not JSON")
            for body in (b"[", b"[1", b"[1,]", b"[,1]", b"[1]]", b"[1 2]")
        ],
        ("application/json", b"[" + b"1," * 10 + b"1]", 413, "more than 10 events"),
        ("application/json", b"[" + b"1," * 10 + b"{", 413, "more than 10 events"),
        ("application/json", b"[" + b"[" * 100_000, 400, "nested"),
        ("application/x-ndjson", b"1\n" * 11, 413, "more than 10 events"),
        ("application/x-ndjson", b"1\n" * 10 + b"1", 413, "more than 10 events"),
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


@pytest.mark.parametrize("frames", [0, 100])
@pytest.mark.parametrize("kind", ["application/json", "array", "long array", "application/x-ndjson"])
def test_json_may_be_nested_as_deeply_in_each_format(kind: str, frames: int) -> None:
    """However many calls lead to the decoder."""

    def read(depth: int, more: int = frames) -> Any:
        if more:
            return read(depth, more - 1)
        value = b'{"a":' * (depth // 2) + b"[" * (depth - depth // 2) + b"]" * (depth - depth // 2)
        value += b"}" * (depth // 2)
        arrays = {"array": b"[1, %s, 2]", "long array": b"[%s]" % (b'{"x": {}}, {}, 2, ' * 300 + b"%s")}
        body = arrays.get(kind, b"%s") % value
        return read_body(request("application/json" if kind in arrays else kind, body), 1000).values

    assert read(MAX_NESTING)
    for depth in (MAX_NESTING + 1, 970, 100_000):
        with pytest.raises(Refusal, match="nested too deeply: more than 500 levels") as raised:
            read(depth)
        assert raised.value.status == 400


@given(
    st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=9),
    st.booleans(),
)
def test_an_array_is_read_as_a_whole_text_would_be(values: list[Any], spaced: bool) -> None:
    text = json.dumps(values, indent=2 if spaced else None, ensure_ascii=False)
    assert read_body(request("application/json", text.encode())).values == values


@given(st.text('[]{}, 1"a', max_size=12))
def test_no_array_is_read_that_is_none(text: str) -> None:
    try:
        expected = json.loads(f"[{text}")
    except ValueError:
        expected = None
    try:
        found: Any = read_body(request("application/json", f"[{text}".encode())).values
    except Refusal:
        found = None
    assert found == expected


FORM, JSON, LINES = "application/x-www-form-urlencoded", "application/json", "application/x-ndjson"
MULTIPART = "multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
LONG = b"x" * SHORT


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        (FORM, b"key=s%C3%A9c+ret&message=" + LONG, True),
        (FORM, b"message=" + LONG + b"&key=s%C3%A9c+ret", True),
        (FORM, b"mykey=s%C3%A9c+ret&key=&message=" + LONG, False),
        (JSON, b'{"message": "%s", "key" : "s\xc3\xa9c ret"}' % LONG, True),
        (JSON, b'{"key":"s\\u00e9c ret","message": "%s"}' % LONG, True),
        (JSON, b'{"key":"other","message": {"key": "%s"}}' % LONG, False),
        (LINES, b'{"key":1}\n{"key":"s\xc3\xa9c ret"}\n' + LONG, True),
        (
            "multipart/form-data; boundary=B",
            PART % (b"message", LONG) + PART % (b"key", b"s\xc3\xa9c ret") + b"--B--",
            True,
        ),
        (
            "multipart/form-data; boundary=B",
            PART % (b"message", LONG) + PART % (b"key", b"other") + b"--B--",
            False,
        ),
        ("text/plain", LONG, False),
        ("text/plain", b"short", True),
        ("text/plain", b"", False),
    ],
)
def test_a_long_body_is_searched_for_the_key(kind: str, body: bytes, found: bool) -> None:
    assert may_hold_key(request(kind, body), lambda key: key == "séc ret".encode()) is (
        found or (not len(body) > SHORT and bool(body))
    )


def test_long_batches_are_read_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_WHOLE_ARRAY", 0)
    for kind, body in (
        ("application/json", b"[" + b"1," * 1999 + b"1]"),
        ("application/x-ndjson", b"1\n" * 2000),
    ):
        work = bodies.read_body(request(kind, body), 2000)
        assert len(list(work)) >= 3
