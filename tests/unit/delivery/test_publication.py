"""What publishers say, in each of their languages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.publication import (
    MAX_RETRY,
    MAX_TYPE,
    Publication,
    channel_names,
    publication,
)
from cyclone_sse.strict_json import read_json


def test_a_form() -> None:
    got = Publication.from_form(
        {
            "channel": ["a", "b", "a", ""],
            "message": ["old", "new"],
            "event": ["news"],
            "retry": ["1500"],
            "other": [""],
        }
    )
    assert got == Publication(("a", "b"), b"new", "news", 1500)
    assert got.text == "new"


@pytest.mark.parametrize(
    "field", ["channel", "channels", "channel[]", "channels[]", "channels[0]", "channel[17]"]
)
def test_channels_are_known_by_each_of_their_names(field: str) -> None:
    assert Publication.from_form({field: ["a"], "message": ["x"]}).channels == ("a",)
    assert channel_names({"uuid": ["1"], field: ["a", "", "b"]}) == ["a", "b"]


@pytest.mark.parametrize(
    "field", ["channel[x]", "channels[", "xchannels", "Channel", "channels[0][1]", "channels[٣]"]
)
def test_other_names_are_other_fields(field: str) -> None:
    assert channel_names({field: ["a"]}) == []


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, "channel is missing or empty"),
        ({"message": ["x"], "channel": [""]}, "channel is missing or empty"),
        ({"channel": ["a"]}, "message is missing or empty"),
        ({"channel": ["a"], "message": [""]}, "message is missing or empty"),
        ({'{"channel": "a", "message": "x"}': [""]}, "send it with Content-Type: application/json"),
        ({"channel": ["a"], "message": ["x"], "retry": ["soon"]}, "retry"),
        ({"channel": ["a"], "message": ["x"], "retry": ["-1"]}, "retry"),
        ({"channel": ["a"], "message": ["x"], "retry": ["٣"]}, "retry"),
        ({"channel": ["a"], "message": ["x"], "retry": ["9" * 5000]}, "retry"),
        ({"channel": ["a"], "message": ["x"], "retry": [str(MAX_RETRY + 1)]}, "retry"),
        ({"channel": ["a"], "message": ["x"], "event": [""]}, "event"),
    ],
)
def test_a_form_that_will_not_do(form: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Publication.from_form(form)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("text", b"text"),
        ("[1, 2]", b"[1, 2]"),
        ({"title": "Hello"}, b'{"title":"Hello"}'),
        ([1, None, True], b"[1,null,true]"),
        (0, b"0"),
        (False, b"false"),
        (None, b"null"),
        ({"é": "\n"}, '{"é":"\\n"}'.encode()),
    ],
)
def test_a_json_message_may_be_any_value(message: object, data: bytes) -> None:
    assert Publication.from_json({"channel": "a", "message": message}).data == data


def test_json_channels_are_a_text_or_a_list() -> None:
    value = {"channel": "chat", "channels": ["b", "chat"], "message": "x", "retry": 0, "key": "k"}
    assert Publication.from_json(value) == Publication(("chat", "b"), b"x", None, 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1, "not a JSON object"),
        ({"message": "x"}, "channel is missing or empty"),
        ({"channel": [], "message": "x"}, "channel is missing or empty"),
        ({"channel": "a"}, "message is missing or empty"),
        ({"channel": "a", "message": ""}, "message is missing or empty"),
        ({"channel": 1, "message": "x"}, "channel is not text"),
        ({"channels": None, "message": "x"}, "channels is not text"),
        ({"channel": ["a", None], "message": "x"}, "channel is not text"),
        ({"channel": {"a": 1}, "message": "x"}, "channel is not text"),
        ({"channel": ["a", ["b"]], "message": "x"}, "channel is not text"),
        ({"channel": "\ud800", "message": "x"}, "channel is not text"),
        ({"channel": "a", "message": "\ud800"}, "not UTF-8"),
        ({"channel": "a", "message": ["\ud800"]}, "not UTF-8"),
        ({"channel": "a", "message": [float("inf")]}, "cannot be written"),
        ({"channel": "a", "message": "x", "evnt": "a"}, "unknown field 'evnt'"),
        ({"channel": "a", "message": "x", "event": 1}, "event is not text"),
        ({"channel": "a", "message": "x", "retry": "1"}, "whole number"),
        ({"channel": "a", "message": "x", "retry": True}, "whole number"),
        ({"channel": "a", "message": "x", "retry": 1.5}, "whole number"),
        ({"channel": "a", "message": "x", "retry": -1}, "retry"),
    ],
)
def test_json_that_will_not_do(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Publication.from_json(value)


@pytest.mark.parametrize(
    "type", ["", "x" * (MAX_TYPE + 1), "a\nb", "a\rdata: b", "a\0", "sse-gap", "sse-", "\ud800"]
)
def test_a_type_cannot_write_other_fields_nor_pass_for_ours(type: str) -> None:
    with pytest.raises(ValueError, match="event"):
        Publication(("a",), b"x", type)
    assert publication("a", "x", "x" * MAX_TYPE).type == "x" * MAX_TYPE


def test_an_entry_of_a_stream() -> None:
    pairs = [
        (b"channel", b"a"),
        (b"channel", "é".encode()),
        (b"message", b"[1]"),
        (b"event", b"news"),
        (b"retry", b"5"),
        (b"\xff", b"\xff"),
    ]
    assert Publication.from_entry(pairs) == Publication(("a", "é"), b"[1]", "news", 5)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(b"channel", b"a")],
        [(b"message", b"a")],
        [(b"channel", b"a"), (b"message", b"\xff")],
        [(b"channel", b"\xff"), (b"message", b"x")],
        [(b"channel", b"a"), (b"message", b"x"), (b"event", b"\n")],
    ],
)
def test_an_entry_that_cannot_be_understood(pairs: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match=r"missing|UTF-8|line break"):
        Publication.from_entry(pairs)


def test_one_name_is_one_channel_and_not_its_letters() -> None:
    assert publication("chat", b"x").channels == ("chat",)
    assert publication(iter(["b", "a", "b"]), "x").channels == ("b", "a")
    with pytest.raises(ValueError, match="UTF-8"):
        publication("chat", b"\xff")


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    body = json.dumps({"channel": "a", "message": [value]}).encode()
    assert json.loads(Publication.from_json(read_json(body)).data) == [value]


@pytest.mark.parametrize("name", ["a" * 256, "€" * 86, "*[^a]" * 3000])
def test_a_long_name_is_refused_before_it_is_looked_at(name: str) -> None:
    with pytest.raises(ValueError, match="longer than 255 bytes"):
        publication(["ok", name], "x")
    assert publication(["a" * 255, "€" * 85], "x").channels[0] == "a" * 255


@pytest.mark.parametrize("ttl", ["0", "1.5", "300"])
def test_how_long_an_event_is_held_and_which_client_does_not_get_it(ttl: str) -> None:
    form = Publication.from_form(
        {"channel": ["a"], "message": ["x"], "ttl": [ttl], "except": ["tab-1"], "keep": ["1"]}
    )
    value = json.loads(f'{{"channel": "a", "message": "x", "ttl": {ttl}, "except": "tab-1", "keep": true}}')
    entry = [
        (b"channel", b"a"),
        (b"message", b"x"),
        (b"ttl", ttl.encode()),
        (b"except", b"tab-1"),
        (b"keep", b"1"),
    ]
    assert form == Publication.from_json(value) == Publication.from_entry(entry)
    assert (form.ttl, form.excluded, form.keep) == (float(ttl), "tab-1", True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttl", "-1"),
        ("ttl", "1e300"),
        ("ttl", "nan"),
        ("ttl", ""),
        ("except", ""),
        ("except", "x" * 65),
        ("keep", "yes"),
    ],
)
def test_what_these_fields_cannot_be_is_named(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=field):
        Publication.from_form({"channel": ["a"], "message": ["x"], field: [value]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttl", True),
        ("ttl", -1),
        ("ttl", float("inf")),
        ("except", 1),
        ("except", ""),
        ("keep", 1),
        ("keep", "1"),
    ],
)
def test_in_json_these_fields_have_their_types(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Publication.from_json({"channel": "a", "message": "x", field: value})


@pytest.mark.parametrize("field", ["event", "retry", "ttl", "except", "keep", "idempotency_key"])
def test_null_is_no_field(field: str) -> None:
    plain = {"channel": "a", "message": "x"}
    assert Publication.from_json({**plain, field: None}) == Publication.from_json(plain)


def test_the_name_of_a_channel_has_at_most_255_bytes() -> None:
    assert publication("\u00e4" * 127, "x")
    with pytest.raises(ValueError, match="255 bytes"):
        publication("\u00e4" * 128, "x")


def test_a_number_that_is_too_large_is_not_called_no_number() -> None:
    with pytest.raises(ValueError, match="ttl is not between 0 and 315360000 seconds"):
        Publication.from_json({"channel": "a", "message": "x", "ttl": 1e12})
