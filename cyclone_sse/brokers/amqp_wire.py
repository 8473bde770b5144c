"""AMQP on the wire, where txAMQP 0.8.2 gets it wrong: frames, and what the server asks of us.

Its faults are gone round from outside, by subclasses:

- it takes a body that happens to be UTF-8 for text, and counts characters against the size in
  bytes: one non-ASCII message stalls the connection for good (``ExactBody``);
- it fails on headers of many types that other clients send, and the connection with it
  (``LenientHeader``);
- a frame size without limit, which RabbitMQ can be set to, makes it send nothing (``Delegate``).

Two more are left to the callers: it writes the length of a text in characters and then its UTF-8,
so names and passwords must be given to it as bytes; and it takes answers to be in the order of the
calls, while RabbitMQ lets the queue answer "consume", so that must be waited for.
"""

from __future__ import annotations

import struct
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
    """The properties of a message; without them where txAMQP cannot read them."""

    type = Frame.HEADER
    encode = Header.encode

    @staticmethod
    def decode(spec: Any, dec: Any) -> Header:
        """Read one from a frame."""
        raw = dec.decode_longbytes()
        try:
            return Header.decode(spec, Codec(BytesIO(struct.pack("!L", len(raw)) + raw)))
        except Exception:
            # Anything can come out of a table that was not understood.
            start = Codec(BytesIO(raw))
            kind = spec.classes.byid[start.decode_short()]
            return Header(kind, start.decode_short(), start.decode_longlong())


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
        self.client.delivered(msg)

    def basic_ack(self, ch: Any, msg: Any) -> None:
        """The server has taken what we published."""
        self.client.settled(msg.delivery_tag, msg.multiple, None)

    def basic_nack(self, ch: Any, msg: Any) -> None:
        """The server could not."""
        self.client.settled(msg.delivery_tag, msg.multiple, "the message was not taken")


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
