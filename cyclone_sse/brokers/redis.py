"""The Redis broker: what is PUBLISHed in a Redis reaches the subscribers of every instance.

A channel name with ``*`` in it is a pattern. Redis sends one copy of a message for each of our
subscriptions that it matches (redis.io, "Pub/sub"), one right after the other; the subscribers
are to get one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, TimeoutError, fail, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyclone_sse.brokers.upstream import GREETING_WAIT, UpstreamBroker

PING_INTERVAL = 5.0  # seconds; TCP alone takes many minutes to notice that the other side is gone
PING_WAIT = 10.0  # seconds in which a ping must be answered

Deliver = Callable[[bytes | None, bytes, bytes, bool], None]


class RedisLink(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """A connection to Redis.

    It is given no password to txredisapi 1.6, which for good stops to connect when Redis refuses
    it once, and the numbers and charset are off: by default a message ``007`` arrives as 7.

    deliver: called with pattern (or None), channel and message of each copy, and whether it is
    a further copy of the message before.
    """

    def __init__(
        self, deliver: Deliver, reactor: Any, username: str | None, password: str | None, db: int | None
    ) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.callLater = reactor.callLater
        self.gone: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self._error: Exception | None = None  # why we end the connection
        self._deliver = deliver
        self._username = username
        self._password = password
        self._db = db
        self._reactor = reactor
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor
        self._message: tuple[bytes, bytes] | None = None  # channel and bytes of the last copy
        self._patterns: set[bytes] = set()  # under which that message has come

    def connectionMade(self) -> None:
        """Nagle's algorithm would hold back a command for the answer to the one before."""
        super().connectionMade()
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def greet(self) -> Deferred[Any]:
        """Log in; the ping fails where a password is missing, or Redis is still loading."""
        return Deferred.fromCoroutine(self._greet())

    async def _greet(self) -> None:
        try:
            if self._password:
                await self.auth(_bytes(self._password), _bytes(self._username or ""))
            if self._db is not None:
                await self.select(self._db)
            await self.ping()
        except txredisapi.ConnectionError:
            raise self._reason() from None
        self._pinging.start(PING_INTERVAL, now=False)

    def subscribe(self, channel: str) -> Deferred[Any]:
        """One command for each channel, so that each has an answer of its own."""
        return self._command(b"PSUBSCRIBE" if "*" in channel else b"SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """The reverse."""
        return self._command(b"PUNSUBSCRIBE" if "*" in channel else b"UNSUBSCRIBE", channel)

    def publish(self, channels: Sequence[str], message: bytes) -> Deferred[Any]:
        """PUBLISH to each channel; fires when Redis has answered all."""
        answers = [self._command(b"PUBLISH", channel, message) for channel in channels]
        return gatherResults(answers, consumeErrors=True)

    def leave(self) -> None:
        """Nothing needs to be said."""
        self.transport.loseConnection()

    def dataReceived(self, data: bytes, *args: Any) -> None:
        """Bytes came in. If it is not Redis that sends them, hiredis cannot read them."""
        try:
            super().dataReceived(data, *args)
        except txredisapi.InvalidData as error:
            self._error = error
            self.transport.abortConnection()

    def replyReceived(self, reply: Any) -> None:
        """Any answer to a command: our subscriptions may be others now."""
        if not isinstance(reply, list) or reply[0] not in (b"message", b"pmessage"):
            self._message = None
        super().replyReceived(reply)

    def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
        """A copy of a message.

        Redis sends the copies of a message without anything between them, first that for the
        channel itself, then one for each pattern. Between two changes of our subscriptions each
        message comes under the same ones. So it is the same message as before if it looks the
        same and comes under a pattern for the first time.
        """
        more = pattern is not None and (channel, message) == self._message and pattern not in self._patterns
        if not more:
            self._message = (channel, message)
            self._patterns.clear()
        if pattern is not None:
            self._patterns.add(pattern)
        self._deliver(pattern, channel, message, more)

    def connectionLost(self, why: Failure) -> None:
        """Everything that waits for an answer fails."""
        self.lost = self._error or why.value
        if self._pinging.running:
            self._pinging.stop()
        super().connectionLost(why)
        self.gone.callback(self._reason())

    def _command(self, *words: str | bytes) -> Deferred[Any]:
        d: Deferred[Any]
        try:
            d = self.execute_command(*map(_bytes, words))
        except (UnicodeError, txredisapi.ConnectionError):
            d = fail()
        return d.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        """Say why the connection was lost instead of that it was."""
        return Failure(self._reason()) if failure.check(txredisapi.ConnectionError) else failure

    def _reason(self) -> BaseException:
        return self.lost or ConnectionLost()

    def _ping(self) -> Deferred[Any]:
        d: Deferred[Any] = self.ping()
        return d.addTimeout(PING_WAIT, self._reactor).addErrback(self._not_answered)

    def _not_answered(self, failure: Failure) -> None:
        if failure.check(TimeoutError):
            self._error = TimeoutError("no answer to a ping")
            self.transport.abortConnection()


class RedisBroker(UpstreamBroker):
    """Subscribes in Redis to what its clients want to hear."""

    def __init__(self, settings: Mapping[str, Any], reactor: Any = None) -> None:
        self._host: str = settings.get("redis-host") or "127.0.0.1"
        self._port = int(settings.get("redis-port") or 6379)
        super().__init__(settings, "redis", f"Redis at {self._host}:{self._port}", reactor)
        credentials = [settings.get(f"redis-{name}") for name in ("username", "password", "db")]
        self._factory = Factory.forProtocol(partial(RedisLink, self._deliver, self.reactor, *credentials))
        self._factory.noisy = False

    def open(self, publishing: bool) -> Deferred[Any]:
        """Both connections are of one kind."""
        endpoint: Any = HostnameEndpoint(self.reactor, self._host, self._port, timeout=GREETING_WAIT)
        if self.settings.get("redis-tls"):
            # Verified with the system's certificates, or those that SSL_CERT_FILE names.
            endpoint = wrapClientTLS(optionsForClientTLS(self._host), endpoint)
        return endpoint.connect(self._factory)  # type: ignore[no-any-return]

    def _deliver(self, pattern: bytes | None, channel: bytes, message: bytes, more: bool) -> None:
        """One event for all the names under which this message comes; its further copies add nothing."""
        if more:
            return
        source = _name(channel)
        wanted = self.interests.names()
        names = [source] if source in wanted and "*" not in source else []
        for name in sorted(wanted):
            if "*" in name and fnmatchcase(source, name) and not self.is_pattern_blocked(name):
                names.append(name)
        if names:
            self.deliver(names, message, source)


def _bytes(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word


def _name(raw: bytes) -> str:
    """A channel's name; one that is not UTF-8 can come under a pattern, and only be logged."""
    return raw.decode("utf-8", "backslashreplace")
