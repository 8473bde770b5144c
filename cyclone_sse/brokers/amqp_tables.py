"""Tables of AMQP: the headers of a message, and the properties that client and server announce.

txAMQP 0.8.2 writes only text and integers, and fails on other types. This module reads and writes tables as
bytes (AMQP 0-9-1, 4.2.5.5, with the types that RabbitMQ uses). Plain Python.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

_NUMBERS = {
    b"t": ">?",
    b"b": ">b",
    b"B": ">B",
    b"s": ">h",
    b"U": ">h",
    b"u": ">H",
    b"I": ">i",
    b"i": ">I",
    b"l": ">q",
    b"L": ">q",
    b"f": ">f",
    b"d": ">d",
    b"T": ">Q",
}
DEPTH = 8  # tables and lists within each other


def encode_table(table: Mapping[str, Any]) -> bytes:
    """The content of a table, without its length. Values: bool, int, str, bytes; lists, tables of these."""
    return b"".join(_short(name.encode()) + _encode(value) for name, value in table.items())


def _encode(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"l" + struct.pack(">q", value)
    if isinstance(value, str):
        return b"S" + _long(value.encode())
    if isinstance(value, bytes):
        return b"S" + _long(value)
    if isinstance(value, Mapping):
        return b"F" + _long(encode_table(value))
    return b"A" + _long(b"".join(map(_encode, value)))


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _long(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def decode_table(content: bytes) -> dict[str, Any]:
    """Read the content of a table; text is bytes. Raises ValueError if it is malformed."""
    try:
        return _Reader(content).table(len(content), DEPTH)
    except (struct.error, IndexError, UnicodeError) as error:
        raise ValueError(f"not a table of AMQP: {error}") from None


class _Reader:
    """Reads the values of a table one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def _read(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        if len(piece) < size:
            raise ValueError("a table of AMQP ends too early")
        self._at += size
        return piece

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._read(struct.calcsize(form)))[0]

    def table(self, size: int, depth: int) -> dict[str, Any]:
        """Read the table of this size at the present position."""
        end = self._at + size
        table: dict[str, Any] = {}
        while self._at < end:
            name = self._read(self._number(">B")).decode("utf-8", "replace")
            table[name] = self._value(depth)
        return table

    def _value(self, depth: int) -> Any:
        kind = self._read(1)
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind in (b"S", b"x"):
            return self._read(self._number(">I"))
        if kind == b"D":
            return self._number(">B"), self._number(">i")
        if kind == b"V":
            return None
        if kind not in (b"F", b"A") or not depth:
            raise ValueError(f"a value of AMQP's type {kind!r}")
        size = self._number(">I")
        if kind == b"F":
            return self.table(size, depth - 1)
        end = self._at + size
        values = []
        while self._at < end:
            values.append(self._value(depth - 1))
        return values
