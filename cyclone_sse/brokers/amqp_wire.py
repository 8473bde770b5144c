"""The parts of AMQP's wire format in which txAMQP 0.8.2 has bugs: frames, and methods that the server calls.

Subclasses of txAMQP's classes avoid these bugs:

- txAMQP treats a body that is valid UTF-8 as text, and compares the number of characters with the size in
  bytes: one non-ASCII message stalls the connection forever (``ExactBody``);
- txAMQP fails on headers of many types that other clients send, and ends the connection
  (``LenientHeader``, which reads them with ``amqp_tables``);
- if RabbitMQ is configured without a limit of the frame size, txAMQP sends nothing (``Delegate``);
- txAMQP announces no capabilities, so that RabbitMQ does not report that a queue was deleted, or that it
  accepts no messages (``Delegate``).

Callers must avoid two more: txAMQP writes the length of a text in characters, so names and passwords must be
passed as bytes; and txAMQP expects answers in the order of the calls, while RabbitMQ answers "consume" later,
so nothing else may be under way then.
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

from cyclone_sse.brokers.amqp_tables import decode_table, encode_table

SPEC = Path(__file__).with_name("amqp0-9.xml")
USED = ("connection", "channel", "exchange", "queue", "basic")  # classes
FRAME_MAX = 131072  # bytes; RabbitMQ's default
CLIENT_PROPERTIES = {
    "product": "cyclone-sse",
    "capabilities": {
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    },
}


class QueueDeleted(Exception):
    """The queue of a connection was deleted, for example by an operator or a policy."""


class ExactBody(Body):  # type: ignore[misc]
    """A part of a message's body, as bytes. It replaces txAMQP's class, since it has the same ``type``."""

    type = Frame.BODY
    encode = Body.encode

    @staticmethod
    def decode(spec: Any, dec: Any) -> Body:
        """Read one from a frame."""
        return Body(dec.decode_longbytes())


class LenientHeader(Header):  # type: ignore[misc]
    """The properties of a message. ``amqp_tables`` reads the headers; malformed ones are skipped."""

    type = Frame.HEADER
    encode = Header.encode

    @staticmethod
    def decode(spec: Any, dec: Any) -> Header:
        """Read one from a frame."""
        content = Codec(BytesIO(dec.decode_longbytes()))
        kind = spec.classes.byid[content.decode_short()]
        header = Header(kind, content.decode_short(), content.decode_longlong())
        present = content.decode_short()  # a bit for each property, the highest first; AMQP 0-9-1, 4.2.6.1
        with suppress(Exception):  # malformed properties are dropped, and the connection stays
            for n, field in enumerate(kind.fields):
                if not present >> (15 - n) & 1:
                    continue
                if field.name == "headers":
                    table = content.decode_longbytes()
                    with suppress(ValueError):
                        header.properties["headers"] = decode_table(table)
                else:
                    header.properties[field.name] = content.decode(field.type)
        return header


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """The methods that the server calls."""

    def connection_start(self, ch: Any, msg: Any) -> None:
        """Log in, and announce our capabilities."""
        client = self.client
        known = {"mechanism": client.mechanism, "response": client.response, "locale": client.locale}
        if "blocked" in client.spec.classes.byname["connection"].methods.byname:  # not in a user's own file
            known["client_properties"] = encode_table(CLIENT_PROPERTIES)
        ch.connection_start_ok(**known)

    def connection_tune(self, ch: Any, msg: Any) -> None:
        """Agree on the size of frames, and on our heartbeat."""
        frame_max = min(msg.frame_max or FRAME_MAX, FRAME_MAX)
        self.client.MAX_LENGTH = frame_max
        ch.connection_tune_ok(msg.channel_max, frame_max, self.client.heartbeatInterval)
        self.client.started.fire()

    def connection_blocked(self, ch: Any, msg: Any) -> None:
        """Note that the server accepts no messages from us for now."""
        self.client.publishing_blocked(str(msg.reason))

    def connection_unblocked(self, ch: Any, msg: Any) -> None:
        """Note that the server accepts messages again."""
        self.client.publishing_unblocked()

    def basic_cancel(self, ch: Any, msg: Any) -> None:
        """End the connection, since the server has deleted our queue."""
        self.client.abort(QueueDeleted("our queue was deleted"))

    def basic_deliver(self, ch: Any, msg: Any) -> None:
        """Pass on a message from our queue."""
        self.client.message_received(msg)

    def basic_return_(self, ch: Any, msg: Any) -> None:
        """Pass on a message of ours that reached no queue."""
        self.client.message_returned(msg)

    def basic_ack(self, ch: Any, msg: Any) -> None:
        """Note that the server has accepted messages of ours."""
        self.client.publish_confirmed(ch.id, msg.delivery_tag, msg.multiple, None)

    def basic_nack(self, ch: Any, msg: Any) -> None:
        """Note that the server has refused messages of ours."""
        error = "RabbitMQ rejected the message, maybe because a queue is full"
        self.client.publish_confirmed(ch.id, msg.delivery_tag, msg.multiple, error)


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
        # The XML parser may raise an error, and txAMQP any error if the data has another structure.
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ValueError(
            f"--amqp-spec={file} is not an AMQP specification: {reason} "
            "(without this option the package's own is used)"
        ) from error
