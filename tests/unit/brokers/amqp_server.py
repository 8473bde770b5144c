"""The other side of a connection to AMQP: reads what was sent as pika's frames, and answers."""

from __future__ import annotations

from typing import Any

import pika.frame
import pika.spec as amqp
from pika.frame import decode_frame
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

HEADER = b"AMQP\x01\x01\x00\x09"


class Transport(StringTransportWithDisconnection):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a TCP transport."""

    def abortConnection(self) -> None:
        self.connected = False
        self.protocol.connectionLost(Failure(ConnectionLost()))


class Server:
    """The other side of one connection: reads what we sent as pika's frames, and answers."""

    def __init__(self, factory: Any) -> None:
        self.transport = Transport()
        self.link = factory.buildProtocol(None)
        self.transport.protocol = self.link
        self.link.makeConnection(self.transport)
        assert self.transport.value() == HEADER
        self.transport.clear()
        self.greeted = self.link.log_in()
        self.errors: list[BaseException] = []
        self.greeted.addErrback(lambda failure: self.errors.append(failure.value))

    def read(self, properties: bool = False) -> list[Any]:
        """What has been sent since the last time: methods, sizes (or properties) of messages, bodies."""
        data, sent = self.transport.value(), []
        self.transport.clear()
        while data:
            used, frame = decode_frame(data)
            data = data[used:]
            if isinstance(frame, pika.frame.Method):
                sent.append(frame.method)
            elif isinstance(frame, pika.frame.Header):
                sent.append(frame.properties if properties else frame.body_size)
            elif isinstance(frame, pika.frame.Body):
                sent.append(frame.fragment)
            else:
                sent.append("heartbeat")
        return sent

    def send(self, method: Any, *body: bytes, channel: int = 1, **properties: Any) -> None:
        """A method, and its content in pieces."""
        frames = [pika.frame.Method(channel, method)]
        if method.INDEX in (amqp.Basic.Deliver.INDEX, amqp.Basic.Return.INDEX):
            frames.append(pika.frame.Header(channel, sum(map(len, body)), amqp.BasicProperties(**properties)))
            frames += [pika.frame.Body(channel, piece) for piece in body]
        self.link.dataReceived(b"".join(frame.marshal() for frame in frames))
        while self.transport.producerState == "paused":  # see `sliced_reads`
            self.link.factory.reactor.advance(0)

    def deliver(self, key: str, *body: bytes, exchange: str = "exchange", **properties: Any) -> None:
        """A message."""
        self.send(amqp.Basic.Deliver("tag", 1, False, exchange, key), *body, **properties)

    def get_ready(self, channel: int = 1, bindings: int = 2, fanout: bool = False) -> list[Any]:
        """Go through what a connection that receives does after the log-in; returns what was sent for it."""
        sent = []
        steps = [
            (channel, amqp.Queue.DeclareOk("amq.gen-1", 0, 0)),
            (channel, amqp.Basic.ConsumeOk("tag")),
            (bindings, amqp.Channel.OpenOk()),
            (bindings, amqp.Queue.BindOk()),
            (bindings, amqp.Exchange.DeclareOk()),
            (bindings, amqp.Queue.BindOk()),
        ]
        for number, answer in steps:
            self.send(answer, channel=number)
            sent += self.read()
        return sent

    def log_in(self, channel: int = 1, frame_max: int = 131_072) -> list[Any]:
        """Go through the log-in; returns what was sent for it."""
        self.send(amqp.Connection.Start(0, 9, {"product": "test"}, "PLAIN AMQPLAIN", "en_US"), channel=0)
        sent = self.read()
        self.send(amqp.Connection.Tune(2047, frame_max, 60), channel=0)
        sent += self.read()
        self.send(amqp.Connection.OpenOk(), channel=0)
        sent += self.read()
        self.send(amqp.Channel.OpenOk(), channel=channel)
        sent += self.read()
        self.send(amqp.Exchange.DeclareOk(), channel=channel)
        return sent + self.read()


def fate(d: Deferred[Any]) -> list[Any]:
    """A list that will hold the result, or the exception."""
    results: list[Any] = []
    d.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
