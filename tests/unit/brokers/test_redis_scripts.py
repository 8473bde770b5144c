"""The values of states, and the arguments of scripts; what Redis makes of them is tested with Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers.redis_scripts import adding, decode_state, encode_state
from cyclone_sse.delivery.publication import publication


@given(st.text(min_size=1, max_size=50), st.sampled_from([None, "price"]))
def test_a_state_is_read_as_it_was_written(message: str, type: str | None) -> None:
    state = publication("a", message, type, keep=True)
    assert decode_state(b"a", encode_state(b"5-1", state)) == (b"5-1", state)


@pytest.mark.parametrize(
    "value", [b"", b"x", b"5-1\n\n", b"5\n\nx", b"99999999999999999999-0\n\nx", b"5-1\n\n\xff"]
)
def test_what_is_no_state_is_an_error(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"id|missing|UTF-8"):
        decode_state(b"a", value)


def test_entries_without_a_key_have_none() -> None:
    keys, arguments = adding([([b"a", b"b"], None), ([b"c", b"d"], "k")], b"s", b"s:state", 9, 0.5)
    assert keys == [b"s", b"s:state", b"s:published:k"]
    assert arguments == [b"2", b"9", b"500", b"2", b"0", b"a", b"b", b"2", b"1", b"c", b"d"]
