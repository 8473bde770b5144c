"""JSON that is read strictly, and written compactly."""

from __future__ import annotations

import pytest

from cyclone_sse.strict_json import MAX_NESTING, compact_json, is_deep, is_utf8, read_json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"NaN",
        b"[Infinity]",
        b"9" * 5000,
        b"[-Infinity]",
        b"[" * 100_000,
        b'"\xff"',
        '"a"'.encode("utf-16"),
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        read_json(body)


@pytest.mark.parametrize(
    ("text", "depth"),
    [("1", 0), ("[]", 1), ("{}", 1), ('[1,{"a":"[[["}]', 2), ('{"a":[],"b":{"c":[1]}}', 3), ("[[[]],1]", 3)],
)
def test_json_is_as_deep_as_its_deepest_value(text: str, depth: int) -> None:
    value = read_json(text.encode())
    assert not is_deep(value, depth)
    assert depth == 0 or is_deep(value, depth - 1)


def test_a_list_of_very_many_is_not_deep() -> None:
    flat = b"[" + b"[],{}," * MAX_NESTING + b"[]]"
    assert len(read_json(flat)) == 2 * MAX_NESTING + 1
    assert read_json(b"[" * MAX_NESTING + b"]" * MAX_NESTING)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1))


def test_what_is_written_is_json_without_spaces() -> None:
    assert compact_json({"a": [1, "ü"]}) == '{"a":[1,"ü"]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        compact_json([float("nan")])


def test_half_of_a_surrogate_pair_is_no_utf8() -> None:
    assert is_utf8("ü\U0001f600")
    assert not is_utf8("\ud83d")
