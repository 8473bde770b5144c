"""A connection to Redis: logged in, watched, and for one purpose.

txredisapi does the protocol. It is given no password: version 1.6 stops to connect for good when Redis
refuses one. Numbers and charset are off: by default a message ``007`` arrives as 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, TimeoutError, fail, gatherResults
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.patterns import Patterns, compile_glob, escape_glob

PING_INTERVAL = 5.0  # seconds; TCP alone takes many minutes to notice that the other side is gone
PING_WAIT = 10.0  # seconds in which a ping must be answered

# Below the prefix: no client can name it, nor publish there, since it is not UTF-8.
CONTROL = b"\xffcontrol"

Deliver = Callable[[list[bytes], bytes, bytes], None]
ResponseError = txredisapi.ResponseError  # what Redis says instead of doing it


class RedisLink(txredisapi.RedisProtocol):  # type: ignore[misc]
    """A connection that sends commands. gone, lost: see ``upstream.Link``.

    username, password, db: what to log in with, as far as it is needed. prefix: of all channels.
    must_be_master: a replica is refused, which one may be that sentinels still call the master.
    """

    must_be_master = False

    def __init__(
        self, reactor: Any, username: str | None, password: str | None, db: int | None, prefix: str = ""
    ) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.callLater = reactor.callLater
        self.gone: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self._error: Exception | None = None  # why we end the connection
        self._username = username
        self._password = password
        self._db = db
        self._prefix = prefix.encode()
        self._reactor = reactor
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor

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
            if self.must_be_master and (await self.command("ROLE"))[0] != b"master":
                raise ConnectError(string="it is no master yet")
        except txredisapi.ConnectionError:
            raise self._reason() from None
        self._pinging.start(PING_INTERVAL, now=False)

    def command(self, *words: str | bytes | int) -> Deferred[Any]:
        """Send one command. Fires with the answer; fails with ResponseError, or why it is lost."""
        d: Deferred[Any]
        try:
            d = self.execute_command(*map(_bytes, words))
        except (UnicodeError, txredisapi.ConnectionError):
            d = fail()
        return d.addErrback(self._explain)

    def publish(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """PUBLISH to each channel; fires when Redis has answered all. It gives no ids."""
        answers = [
            self.command(b"PUBLISH", self._prefix + name.encode(), each.data)
            for each in publications
            for name in each.channels
        ]
        return gatherResults(answers, consumeErrors=True).addCallback(lambda _: [None] * len(publications))

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Hand an order to every server that shares the prefix.

        Through sharded pub/sub, which Redis has since 7.0 and which patterns know nothing of: no client hears
        it, and PUBSUB goes on to name what clients hear and nothing else. Else through the usual.
        """
        name = self._prefix + CONTROL
        return self._sharded(self.command(b"SPUBLISH", name, order), b"PUBLISH", name, order)

    def _sharded(self, d: Deferred[Any], *otherwise: bytes) -> Deferred[Any]:
        def try_the_other(failure: Failure) -> Deferred[Any]:
            failure.trap(ResponseError)
            if "unknown command" not in str(failure.value):
                return fail(failure)
            return self.command(*otherwise)

        return d.addErrback(try_the_other)

    def leave(self) -> None:
        """Nothing needs to be said."""
        self.transport.loseConnection()

    def tryConvertData(self, data: Any) -> Any:
        """Nothing is converted; txredisapi would walk through each answer to find that out."""
        return data

    def dataReceived(self, data: bytes, *args: Any) -> None:
        """Bytes came in. If it is not Redis that sends them, hiredis cannot read them."""
        try:
            super().dataReceived(data, *args)
        except txredisapi.InvalidData as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """End the connection, for this reason."""
        self._error = error
        self.transport.abortConnection()

    def connectionLost(self, why: Failure) -> None:
        """Everything that waits for an answer fails."""
        self.lost = self._error or why.value
        if self._pinging.running:
            self._pinging.stop()
        super().connectionLost(why)
        self.gone.callback(self._reason())

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
            self.give_up(TimeoutError("no answer to a ping"))


class RedisSubscriberLink(RedisLink, txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """A connection that subscribes, and takes all copies of a message for one.

    Redis sends a copy for each of our subscriptions that a message matches, one right after the other
    (redis.io, "Pub/sub"). Its answers to SUBSCRIBE and the like stand in the same row, so at each message we
    know for which subscriptions copies must come: the first copy stands for all, and the others are dropped,
    in however many reads they arrive.

    deliver: called with the names of our subscriptions that a message matches, its channel (both without the
    prefix) and its bytes.
    """

    def __init__(self, deliver: Deliver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deliver = deliver
        self._escaped = escape_glob(self._prefix)  # what a pattern begins with
        self._channels: set[bytes] = set()  # subscribed, as Redis has confirmed
        self._patterns = Patterns(compile_glob)
        self._message: tuple[bytes, bytes] | None = None  # channel and bytes of the last copy
        self._to_come: set[bytes | None] = set()  # of that message: the patterns, None for the channel's own

    def subscribe(self, channel: str) -> Deferred[Any]:
        """One command for each channel, so that each has an answer of its own."""
        return self._change(b"SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """The reverse."""
        return self._change(b"UNSUBSCRIBE", channel)

    def subscribe_to_orders(self) -> Deferred[Any]:
        """Hear what any server that shares the prefix orders: see ``publish_order``."""
        name = self._prefix + CONTROL
        return self._sharded(self.command(b"SSUBSCRIBE", name), b"SUBSCRIBE", name)

    def _change(self, what: bytes, channel: str) -> Deferred[Any]:
        try:
            name = channel.encode()
        except UnicodeError:
            return fail()
        if is_pattern(channel):
            return self.command(b"P" + what, self._escaped + name)
        return self.command(what, self._prefix + name)

    def replyReceived(self, reply: Any) -> None:
        """An answer to a command, or a copy of a message."""
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"smessage":
            self._deliver([], CONTROL, reply[2])
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
            self._to_come.clear()  # nothing stands between the copies of a message
        super().replyReceived(reply)

    def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
        """A copy of a message."""
        if pattern in self._to_come and (channel, message) == self._message:
            self._to_come.discard(pattern)
            return
        patterns = self._patterns.matching(channel)
        self._message = (channel, message)
        self._to_come = {*patterns, None} if channel in self._channels else {*patterns}
        # Should Redis match otherwise than we, it is right, and we say no more than it did.
        expected = pattern in self._to_come
        self._to_come.discard(pattern)
        names = [channel[len(self._prefix) :]] if channel in self._channels else []
        names += [each[len(self._escaped) :] for each in patterns]
        if not expected:
            self._to_come.clear()
            names = [channel[len(self._prefix) :] if pattern is None else pattern[len(self._escaped) :]]
        self._deliver(names, channel[len(self._prefix) :], message)


def is_pattern(channel: str) -> bool:
    """Whether the name stands for many channels, as it has been told since the first version."""
    return "*" in channel


def _bytes(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
