"""Tables of AMQP, against those of pika."""

from __future__ import annotations

import contextlib
import datetime
from decimal import Decimal
from typing import Any

import pika.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers.amqp_tables import decode_table, encode_table

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TABLES = st.dictionaries(st.text(max_size=20), VALUES, max_size=5)


def with_bytes(value: Any) -> Any:
    """Text as it is read."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [with_bytes(each) for each in value]
    if isinstance(value, dict):
        return {name: with_bytes(each) for name, each in value.items()}
    return value


@given(TABLES)
def test_what_is_written_is_read(table: dict[str, Any]) -> None:
    assert decode_table(encode_table(table)) == with_bytes(table)


@given(TABLES)
def test_pika_reads_it(table: dict[str, Any]) -> None:
    content = encode_table(table)
    assert pika.data.decode_table(len(content).to_bytes(4, "big") + content, 0)[0] == table


def test_it_reads_what_other_clients_write() -> None:
    moment = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
    table = {"b": Decimal("2.5"), "c": moment, "d": None, "e": [1, {"f": b"\xff"}], "g": True}
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, table)
    assert decode_table(b"".join(pieces)[4:]) == {
        "b": (1, 25),
        "c": int(moment.timestamp()),
        "d": None,
        "e": [1, {"f": b"\xff"}],
        "g": True,
    }


@pytest.mark.parametrize(
    "content",
    [b"\x05ab", b"\x01aS\x00\x00\x00\x09x", b"\x01aZ", b"\x01a", b"\x01aF" * 20, b"\x01aA\xff\xff\xff\xff"],
)
def test_what_is_no_table_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="AMQP"):
        decode_table(content)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_table(content)
