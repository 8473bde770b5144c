"""A connection to Redis that subscribes: one call for each message, however many copies arrive."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, fail

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.pattern_set import PatternSet
from cyclone_sse.brokers.redis_link import CONTROL, COPIES, RedisLink, is_pattern
from cyclone_sse.patterns import compile_glob, escape_glob

_Deliver = Callable[[list[bytes], bytes, bytes], None]


class RedisSubscriberLink(RedisLink, txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """A connection that subscribes, and delivers all copies of a message as one.

    Redis sends a copy for each of our subscriptions that a message matches, one right after the other
    (redis.io, "Pub/sub"), and so it does with what one transaction publishes to several channels, which an
    announcement goes before. Its answers to SUBSCRIBE and the like stand in the same row, so at each message
    we know for which subscriptions copies must come: the first copy stands for all, and the others are
    dropped, in however many reads they arrive.

    deliver: called with the names of our subscriptions that a message matches, its channel (both without the
    prefix) and its bytes.
    """

    is_subscriber = True

    def __init__(self, deliver: _Deliver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deliver = deliver
        self._escaped = escape_glob(self._prefix)  # what a pattern begins with
        self._channels: set[bytes] = set()  # subscribed, as Redis has confirmed
        self._patterns = PatternSet(compile_glob)
        self._announced: tuple[int, tuple[bytes, ...]] | None = None  # checksum, channels
        self._message = b""  # of the last copy
        # The copies of it that are to come: channel, and pattern or None for the channel's own.
        self._copies: set[tuple[bytes, bytes | None]] = set()

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
        if is_pattern(channel):
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
            self._announced = None
        super().replyReceived(reply)

    def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
        """Deliver a message with its first copy, and drop the other copies."""
        if (channel, pattern) in self._copies and message == self._message:
            self._copies.discard((channel, pattern))
            return
        if pattern is None and channel == self._prefix + CONTROL:
            self._control_received(message)
            return
        channels = self._announced_with(channel, message)
        names, copies = self._match(channels)
        # Redis matches differently. Without this, the message would go to more channels than it matched.
        if (channel, pattern) not in copies:
            names = [channel[len(self._prefix) :] if pattern is None else pattern[len(self._escaped) :]]
            copies = set()
        copies.discard((channel, pattern))
        self._message, self._copies = message, copies
        self._deliver(names, channel[len(self._prefix) :], message)

    def _match(self, channels: Sequence[bytes]) -> tuple[list[bytes], set[tuple[bytes, bytes | None]]]:
        """The names of our subscriptions that these channels match, and the copies that come of them."""
        names: dict[bytes, None] = {}
        copies: set[tuple[bytes, bytes | None]] = set()
        # A message may be announced for a hundred thousand channels, of which few are ours.
        for channel in channels if len(self._patterns) else filter(self._channels.__contains__, channels):
            if channel in self._channels:
                names[channel[len(self._prefix) :]] = None
                copies.add((channel, None))
            for pattern in self._patterns.matching(channel):
                names[pattern[len(self._escaped) :]] = None
                copies.add((channel, pattern))
        return list(names), copies

    def _announced_with(self, channel: bytes, message: bytes) -> Sequence[bytes]:
        """All channels that this message is published to, as far as that was announced."""
        announced, self._announced = self._announced, None
        if announced is not None and announced[0] == zlib.crc32(message) and channel in announced[1]:
            return announced[1]
        return (channel,)

    def _control_received(self, message: bytes) -> None:
        self._copies.clear()
        self._announced = None
        if not message.startswith(COPIES):
            self._deliver([], CONTROL, message)
            return
        try:
            checksum, *channels = json.loads(message[len(COPIES) :])
            self._announced = checksum, tuple(self._prefix + channel.encode() for channel in channels)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return  # any client of Redis may have sent it
