"""A connection to Redis that subscribes: one call for each message, however many copies arrive."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.pattern_set import PatternSet
from cyclone_sse.brokers.redis_link import CONTROL, COPIES, COPIES_END, RedisLink
from cyclone_sse.brokers.sliced_reads import SlicedReads
from cyclone_sse.patterns import compile_glob, escape_glob, is_glob

_Deliver = Callable[[list[bytes], bytes, bytes], None]


class RedisSubscriberLink(RedisLink, txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """A connection that subscribes, and delivers all copies of a message as one.

    Redis sends a copy for each of our subscriptions that a message matches, one right after the other
    (redis.io, "Pub/sub"). Its answers to SUBSCRIBE and the like stand in the same row, so at each message we
    know for which subscriptions copies must come: the first copy stands for all, and the others are dropped,
    in however many reads they arrive. So it does with what one transaction publishes to several channels:
    these copies are announced, and collected until their end. Without that, the names of very many channels
    would be compared with all patterns in one turn.

    deliver: called with the names of our subscriptions that a message matches, its channel (both without the
    prefix) and its bytes.
    """

    is_subscriber = True

    def __init__(self, deliver: _Deliver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deliver = deliver
        self._reads = SlicedReads(super().dataReceived, self._reactor)
        self._escaped = escape_glob(self._prefix)  # what a pattern begins with
        self._channels: set[bytes] = set()  # subscribed, as Redis has confirmed
        self._patterns = PatternSet(compile_glob)
        self._announced: _Announced | None = None
        self._message = b""  # of the last copy
        # The copies of it that are to come: channel, and pattern or None for the channel's own.
        self._copies: set[tuple[bytes, bytes | None]] = set()

    def dataReceived(self, data: bytes, *args: Any) -> None:
        """Read bytes, in pieces: each message is delivered at once."""
        if args:  # without hiredis, txredisapi passes the rest of a piece again
            super().dataReceived(data, *args)
        else:
            self._reads.read(data, self.transport)

    def connectionLost(self, why: Failure) -> None:
        """Drop what was read and is not processed."""
        self._reads.stop()
        super().connectionLost(why)

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Send a command for this channel alone, so that it has an answer of its own."""
        return self._change(b"SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """Send a command for this channel alone."""
        return self._change(b"UNSUBSCRIBE", channel)

    def subscribe_to_orders(self) -> Deferred[Any]:
        """Receive the orders of all servers that share the prefix: see ``publish_order``."""
        name = self._prefix + CONTROL
        return self._sharded(self.command(b"SSUBSCRIBE", name), b"SUBSCRIBE", name)

    def _change(self, what: bytes, channel: str) -> Deferred[Any]:
        try:
            name = channel.encode()
        except UnicodeError as error:
            return fail(NotAllowed(str(error)))
        if is_glob(channel):
            return self.command(b"P" + what, self._escaped + name)
        return self.command(what, self._prefix + name)

    def replyReceived(self, reply: Any) -> None:
        """Process an answer to a command, or a copy of a message."""
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"smessage":
            self._unparsed = 0
            self._control_received(reply[2])
            return
        if kind == b"subscribe":
            self._channels.add(reply[1])
        elif kind == b"unsubscribe":
            self._channels.discard(reply[1])
        elif kind == b"psubscribe":
            self._patterns.add(reply[1])
        elif kind == b"punsubscribe":
            self._patterns.discard(reply[1])
        if not isinstance(reply, list) or reply[0] not in (b"message", b"pmessage"):
            self._copies.clear()  # nothing stands between the copies of a message
            self._end_announced()
        super().replyReceived(reply)

    def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
        """Deliver a message with its first copy, and drop the other copies; collect announced ones."""
        if channel == self._prefix + CONTROL:
            if pattern is None:  # else it is the copy for a client's pattern
                self._control_received(message)
            return
        if self._announced is not None and self._announced.has(message):
            self._announced.names[self._name(pattern, channel)] = None
            self._announced.source = self._announced.source or channel[len(self._prefix) :]
            return
        self._end_announced()
        if (channel, pattern) in self._copies and message == self._message:
            self._copies.discard((channel, pattern))
            return
        names, copies = self._match(channel)
        # Redis matches differently. Without this, the message would go to more channels than it matched.
        if (channel, pattern) not in copies:
            names, copies = [self._name(pattern, channel)], set()
        copies.discard((channel, pattern))
        self._message, self._copies = message, copies
        self._deliver(names, channel[len(self._prefix) :], message)

    def _name(self, pattern: bytes | None, channel: bytes) -> bytes:
        """The name of the subscription of which a copy has come."""
        return channel[len(self._prefix) :] if pattern is None else pattern[len(self._escaped) :]

    def _match(self, channel: bytes) -> tuple[list[bytes], set[tuple[bytes, bytes | None]]]:
        """The names of our subscriptions that the channel matches, and the copies that come of them."""
        subscribed: list[bytes | None] = [None] if channel in self._channels else []
        subscribed += self._patterns.matching(channel)
        return [self._name(each, channel) for each in subscribed], {(channel, each) for each in subscribed}

    def _end_announced(self) -> None:
        """Deliver the announced message whose copies have been collected."""
        announced, self._announced = self._announced, None
        if announced is not None and announced.names:
            self._deliver(list(announced.names), announced.source, announced.message)

    def _control_received(self, message: bytes) -> None:
        self._copies.clear()
        self._end_announced()
        if not message.startswith(COPIES):
            self._deliver([], CONTROL, message)
        elif message != COPIES_END:
            self._announced = _Announced(message[len(COPIES) :])


class _Announced:
    """A message of which copies arrive until their end. names: of our subscriptions. source: a channel."""

    __slots__ = ("_checksum", "message", "names", "source")

    def __init__(self, checksum: bytes) -> None:
        self._checksum = checksum
        self.message = b""
        self.names: dict[bytes, None] = {}
        self.source = b""

    def has(self, message: bytes) -> bool:
        """Whether this is a copy of the message."""
        if self.names:
            return message == self.message
        self.message = message
        return b"%d" % zlib.crc32(message) == self._checksum
