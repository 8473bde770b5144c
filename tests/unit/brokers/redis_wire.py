"""The other side of a connection to Redis, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from cyclone_sse.brokers.redis_link import RedisLink
from cyclone_sse.brokers.redis_subscriber_link import RedisSubscriberLink
from cyclone_sse.delivery.publication import Publication

MASTER = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"  # the answer to ROLE

Message = tuple[list[bytes], bytes, bytes]


class Transport(StringTransportWithDisconnection):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a TCP transport."""

    setTcpKeepAlive = setTcpNoDelay

    def abortConnection(self) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(ConnectionLost()))


class Server:
    """The other side of one connection."""

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        db: int | None = None,
        prefix: str = "",
        kind: Callable[..., Any] | None = None,
    ) -> None:
        self.clock = Clock()
        self.messages: list[Message] = []
        self.transport = Transport()
        kind = kind or partial(RedisSubscriberLink, lambda *message: self.messages.append(message))
        self.link = kind(self.clock, username, password, db, prefix)
        self.transport.protocol = self.link
        self.link.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send bytes; txredisapi takes up what follows a bulk string in the next turn."""
        self.link.dataReceived(data)
        while (
            self.clock.getDelayedCalls() and self.clock.getDelayedCalls()[0].getTime() <= self.clock.seconds()
        ):
            self.clock.advance(0)

    def subscribe(self, *names: str) -> None:
        """Let the client subscribe, and confirm."""
        for name in names:
            self.link.subscribe(name)
            kind = b"psubscribe" if "*" in name else b"subscribe"
            self.send(reply(kind, name.encode(), 1))
        self.read()

    def read(self) -> bytes:
        """What was sent since the last time."""
        sent: bytes = self.transport.value()
        self.transport.clear()
        return sent


def reply(*words: bytes | int) -> bytes:
    """An array as Redis sends it."""
    parts = [
        b":%d\r\n" % word if isinstance(word, int) else b"$%d\r\n%s\r\n" % (len(word), word) for word in words
    ]
    return b"*%d\r\n" % len(words) + b"".join(parts)


def fate(d: Deferred[Any]) -> list[Any]:
    """A list that will hold the result, or the exception."""
    results: list[Any] = []
    d.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


def publish(link: RedisLink, publications: list[Publication]) -> Deferred[Any]:
    """What the broker does with a link."""
    return Deferred.fromCoroutine(link.publish(publications))
