"""The specification against pika's, which was made from the official one, and the faults of txAMQP 0.8.2."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pika.spec
import pytest
from txamqp.codec import Codec
from txamqp.connection import Body, Frame, Header, Method

from cyclone_sse.brokers.amqp_tables import encode_table
from cyclone_sse.brokers.amqp_wire import FRAME_MAX, SPEC, Delegate, load_spec

OUR_SPEC = load_spec(SPEC)
METHODS = [method for kind in OUR_SPEC.classes for method in kind.methods]
VALUES = {
    "bit": True,
    "octet": 7,
    "short": 513,
    "long": 70_000,
    "longlong": 1 << 40,
    "shortstr": b"short",
    "longstr": b"long" * 100,
    "table": {"key": "value"},
}


# Tables that the file calls longstr, since they are written and read by amqp_tables.
TABLES = ("server-properties", "client-properties")
TABLE = encode_table({"capabilities": {"basic.nack": True}})


def pikas(method: Any) -> Any:
    """The same method of pika's; pika calls what 0-9-1 reserves by its old names."""
    name = "".join(part.capitalize() for part in method.name.split("-"))
    return getattr(getattr(pika.spec, method.klass.name.capitalize()), name)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.klass.name}.{method.name}")
def test_each_method_is_what_pika_reads(method: Any) -> None:
    # Two bits side by side share an octet: different values tell one from the other.
    bits = iter([True, False, True, True, False, True] if method.id != 40 else [False, True])
    arguments = [
        next(bits) if f.type == "bit" else TABLE if f.name in TABLES else VALUES[f.type]
        for f in method.fields
    ]
    encoder = Codec(BytesIO())
    Method(method, *arguments).encode(encoder)
    encoded = encoder.stream.getvalue()[8:]  # after the length, the class and the method
    theirs = pikas(method)()
    assert (method.klass.id << 16) + method.id == theirs.INDEX
    assert theirs.synchronous is bool(method.responses) or method.name.endswith("-ok")
    theirs.decode(encoded)
    assert b"".join(theirs.encode()) == encoded
    names = {"nowait", "no-ack", "exclusive", "auto-delete", "multiple", "queue", "exchange", "routing-key"}
    for field, value in zip(method.fields, arguments, strict=True):
        if field.name in names | {
            "consumer-tag",
            "delivery-tag",
            "type",
            "durable",
            "mandatory",
            "heartbeat",
        }:
            text = value.decode() if isinstance(value, bytes) else value
            assert getattr(theirs, field.name.replace("-", "_")) == text, field.name


def test_the_properties_of_a_message_are_those_of_pika() -> None:
    sent = pika.BasicProperties(
        content_type="a",
        headers={"b": 1},
        delivery_mode=2,
        message_id="c",
        timestamp=5,
        type="t",
        app_id="d",
    )
    payload = struct.pack("!HHQ", 60, 0, 10) + b"".join(sent.encode())
    header = decoded(Frame.HEADER, payload)
    assert (header.klass.name, header.weight, header.size) == ("basic", 0, 10)
    assert header.properties == {
        "content-type": "a",
        "headers": {"b": 1},
        "delivery-mode": 2,
        "message-id": "c",
        "timestamp": 5,
        "type": "t",
        "app-id": "d",
    }


def test_the_class_of_publisher_confirms_is_there() -> None:
    assert OUR_SPEC.classes.byname["confirm"].id == pika.spec.Confirm.INDEX


def decoded(kind: str, payload: bytes) -> Any:
    """What comes of the payload of a frame."""
    return Frame.DECODERS[kind].decode(OUR_SPEC, Codec(BytesIO(struct.pack("!L", len(payload)) + payload)))


@pytest.mark.parametrize("body", [b"", b"plain", "é 日本".encode(), b"\xff\xfe", b"\0"])
def test_a_body_stays_bytes(body: bytes) -> None:
    piece = decoded(Frame.BODY, body)
    assert isinstance(piece, Body)
    assert piece.content == body
    assert isinstance(piece.content, bytes)


@pytest.mark.parametrize(
    "value", [b"T\0\0\0\0\0\0\0\1", b"d12345678", b"A\0\0\0\0", b"l12345678", b"V", b"b1", b"?"]
)
def test_headers_that_txamqp_cannot_read_hide_nothing_else(value: bytes) -> None:
    table = b"\x03key" + value
    flags = struct.pack("!H", 1 << 13 | 1 << 5)  # headers, the third property; the type, the eleventh
    payload = struct.pack("!HHQ", 60, 0, 123) + flags + struct.pack("!L", len(table)) + table + b"\x01t"
    header = decoded(Frame.HEADER, payload)
    assert isinstance(header, Header)
    assert (header.klass.name, header.size, header.properties["type"]) == ("basic", 123, "t")


class Client:
    """What Delegate knows of a connection."""

    heartbeatInterval = 30

    def __init__(self) -> None:
        self.MAX_LENGTH = 4096
        self.started = self
        self.sent: list[tuple[int, int, int]] = []

    def fire(self) -> None:
        """Started."""

    def connection_tune_ok(self, *arguments: int) -> None:
        """As the channel's."""
        self.sent.append(arguments)  # type: ignore[arg-type]


class Tune:
    channel_max = 2047

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max


@pytest.mark.parametrize(("offered", "taken"), [(0, FRAME_MAX), (4096, 4096), (1 << 30, FRAME_MAX)])
def test_the_size_of_frames_always_has_a_limit(offered: int, taken: int) -> None:
    delegate, client = Delegate(), Client()
    delegate.client = client
    delegate.connection_tune(client, Tune(offered))
    assert taken == client.MAX_LENGTH
    assert client.sent == [(2047, taken, 30)]


@pytest.mark.parametrize(
    "content", ["", "text", "<amqp major='0' minor='9'/>", "<a/>", "<amqp major='x' minor='9'/>"]
)
def test_what_is_no_specification_is_a_value_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "spec.xml"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"--amqp-spec=.*spec\.xml is not an AMQP specification"):
        load_spec(file)
