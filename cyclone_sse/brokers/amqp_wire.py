"""AMQP on the wire, where txAMQP 0.8.2 gets it wrong: frames, and what the server asks of us.

Its faults are gone round from outside, by subclasses:

- it takes a body that happens to be UTF-8 for text, and counts characters against the size in
  bytes: one non-ASCII message stalls the connection for good (``ExactBody``);
- it fails on headers of many types that other clients send, and the connection with it
  (``LenientHeader``, which reads none);
- a frame size without limit, which RabbitMQ can be set to, makes it send nothing (``Delegate``).

Two more are left to the callers: it writes the length of a text in characters and then its UTF-8,
so names and passwords must be given to it as bytes; and it takes answers to be in the order of the
calls, while RabbitMQ lets the queue answer "consume", so nothing else may be under way then.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from txamqp import spec
from txamqp.client import TwistedDelegate
from txamqp.codec import Codec
from txamqp.connection import Body, Frame, Header

SPEC = Path(__file__).with_name("amqp0-9.xml")
USED = ("connection", "channel", "exchange", "queue", "basic")  # classes
FRAME_MAX = 131072  # bytes; RabbitMQ's default


class ExactBody(Body):  # type: ignore[misc]
    """A piece of a message, as bytes. Takes the place of txAMQP's by having the same ``type``."""

    type = Frame.BODY
    encode = Body.encode

    @staticmethod
    def decode(spec: Any, dec: Any) -> Body:
        """Read one from a frame."""
        return Body(dec.decode_longbytes())


class LenientHeader(Header):  # type: ignore[misc]
    """The properties of a message, without the table of headers, which nobody here wants."""

    type = Frame.HEADER
    encode = Header.encode

    @staticmethod
    def decode(spec: Any, dec: Any) -> Header:
        """Read one from a frame."""
        content = Codec(BytesIO(dec.decode_longbytes()))
        kind = spec.classes.byid[content.decode_short()]
        header = Header(kind, content.decode_short(), content.decode_longlong())
        present = content.decode_short()  # a bit for each property, the highest first; AMQP 0-9-1, 4.2.6.1
        with suppress(Exception):  # nonsense costs the message its properties, nobody the connection
            for n, field in enumerate(kind.fields):
                if present >> (15 - n) & 1:
                    if field.type == "table":
                        content.decode_longbytes()
                    else:
                        header.properties[field.name] = content.decode(field.type)
        return header


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """What the server asks of us, method by method."""

    def connection_tune(self, ch: Any, msg: Any) -> None:
        """Agree on the size of frames, and on our heartbeat."""
        frame_max = min(msg.frame_max or FRAME_MAX, FRAME_MAX)
        self.client.MAX_LENGTH = frame_max
        ch.connection_tune_ok(msg.channel_max, frame_max, self.client.heartbeatInterval)
        self.client.started.fire()

    def basic_deliver(self, ch: Any, msg: Any) -> None:
        """A message of one of our queues."""
        self.client.message_received(msg)

    def basic_ack(self, ch: Any, msg: Any) -> None:
        """The server has taken what we published."""
        self.client.publish_confirmed(msg.delivery_tag, msg.multiple, None)

    def basic_nack(self, ch: Any, msg: Any) -> None:
        """The server could not."""
        self.client.publish_confirmed(msg.delivery_tag, msg.multiple, "the message was not taken")


def load_spec(file: str | Path) -> Any:
    """Read a specification file. Raises ValueError if it cannot be used."""
    try:
        with open(file, "rb") as stream:
            loaded = spec.load(stream)
        for name in USED:
            loaded.classes.byname[name]
        loaded.constants.bypyname["frame_end"]
        return loaded
    except Exception as error:
        # An XML parser, and then whatever the shape of the data leads txAMQP to.
        raise ValueError(f"{file} is no AMQP specification: {error}") from error
