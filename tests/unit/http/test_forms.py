"""From a query or a body to its fields."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.errors import Refusal
from cyclone_sse.http import forms
from cyclone_sse.http.forms import (
    MAX_FIELDS,
    MAX_PART_HEADERS,
    media_type,
    parameters,
    read_multipart,
    read_url_encoded,
    url_encoded,
)
from cyclone_sse.slices import finish

TYPE = "multipart/form-data; boundary=B"


def part(name: str, value: str, *headers: str, more: str = "") -> bytes:
    lines = ["--B", f'Content-Disposition: form-data; name="{name}"{more}', *headers, "", value, ""]
    return "\r\n".join(lines).encode()


END = b"--B--\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Application/JSON; charset=utf-8", "application/json"),
        (" text/plain ;a", "text/plain"),
        ("application/jsonp", "application/jsonp"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_media_type_is_compared_whole_and_without_case(value: str | None, expected: str) -> None:
    assert media_type(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("form-data", {}),
        ("form-data; name=a", {"name": "a"}),
        ('form-data; NAME = "a b;c" ; filename=""', {"name": "a b;c", "filename": ""}),
        ('form-data; name="a\\"b"; name=c', {"name": 'a"b'}),
        ('form-data; filename="C:\\\\x"', {"filename": "C:\\\\x"}),
    ],
)
def test_parameters(value: str, expected: dict[str, str]) -> None:
    assert parameters(value) == expected


@pytest.mark.parametrize("value", ["a;", "a; b", 'a; b="c', "a; =b", 'a; b="c"d', "a;;b=c"])
def test_malformed_parameters_are_refused(value: str) -> None:
    with pytest.raises(Refusal):
        parameters(value)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=20))
def test_a_query_comes_back_as_it_was(pairs: list[tuple[str, str]]) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert url_encoded(urlencode(pairs).encode()) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"a", {"a": [""]}),
        (b"a=b=c&a=", {"a": ["b=c", ""]}),
        (b"a+b=c%20d", {"a b": ["c d"]}),
        ("ä=ö".encode(), {"ä": ["ö"]}),
        (b"a=100%", {"a": ["100%"]}),
        (b"channels[]=a&channels[]=b", {"channels[]": ["a", "b"]}),
    ],
)
def test_fields(data: bytes, expected: dict[str, list[str]]) -> None:
    assert url_encoded(data) == expected


@pytest.mark.parametrize(
    "data", [b"a=%ff", b"%ff=a", b"\xff", b"a=%ed%a0%80", b"&".join([b"a"] * (MAX_FIELDS + 1))]
)
def test_what_is_not_text_or_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        url_encoded(data)


def test_a_multipart_form() -> None:
    body = part("a", "1") + part("a", " 2\r\n") + part("ä", "ö") + part("f", "x", more='; filename="y"') + END
    fields, files = finish(read_multipart(TYPE, body))
    assert fields == {"a": ["1", " 2\r\n"], "ä": ["ö"]}
    assert [(file["filename"], file["body"]) for file in files["f"]] == [("y", b"x")]


def test_a_part_that_holds_parts_is_just_bytes() -> None:
    inner = "--C\r\nContent-Disposition: form-data; name=b\r\n\r\n1\r\n--C--"
    body = part("a", inner, "Content-Type: multipart/mixed; boundary=C") + END
    assert finish(read_multipart(TYPE, body))[0] == {"a": [inner]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"(" * 100_000,
        part("a", "1"),
        part("a", "1") + b"--B",
        b"--C\r\n\r\n\r\n--C--",
        b"--B\r\nno colon\r\n\r\n1\r\n" + END,
        b"--B\r\nContent-Disposition: form-data; name=\xff\r\n\r\n1\r\n" + END,
        b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n" + END,
        part("a", "1") * (MAX_FIELDS + 1) + END,
        part("a", "1", *[f"H{n}: {'x' * 1000}" for n in range(5)]) * (MAX_PART_HEADERS // 5000 + 1) + END,
        b"--B\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n" * 5000,
    ],
)
def test_a_malformed_or_immoderate_form_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        finish(read_multipart(TYPE, body))


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "B" * 300],
)
def test_a_boundary_is_needed(kind: str) -> None:
    with pytest.raises(Refusal):
        finish(read_multipart(kind, part("a", "1") + END))


@given(st.binary(max_size=300), st.text(max_size=20))
def test_no_bytes_raise_anything_else(body: bytes, value: str) -> None:
    for data in (body, part("a", quote_plus(value)) + body, body + END):
        with suppress(Refusal):
            finish(read_multipart(TYPE, data))
        with suppress(Refusal):
            url_encoded(data)


@given(st.text(), st.integers(1, 40))
def test_a_long_value_is_decoded_in_pieces_as_in_one(text: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "SLICE", max(3, piece))
        assert url_encoded(b"a=" + quote_plus(text).encode()) == {"a": [text]}


def test_a_body_of_separators_is_refused_before_it_is_cut_up() -> None:
    body = b"&" * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="more than"):
            url_encoded(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_long_forms_are_read_in_slices() -> None:
    assert len(list(read_url_encoded(b"a=" + b"%41" * 100_000))) > 10
    assert len(list(read_url_encoded(b"&".join([b"a=%41"] * 1000 + [])))) == 0
    body = part("a", "x" * 100_000) + END
    assert len(list(read_multipart(TYPE, body))) > 4
