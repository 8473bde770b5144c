"""A connection to Redis for one purpose, with log-in and pings.

txredisapi implements the protocol. It is not given the password: version 1.6 never reconnects after Redis has
refused one. Conversion of numbers and charset is disabled: by default a message ``007`` arrives as 7.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import NotAllowed, NotPublished, WrongServer, text_of
from cyclone_sse.brokers.redis_pipeline import (
    Command,
    PipelineAnswers,
    Word,
    encode_command,
    encode_in_slices,
)
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import Slices, finish_in_turns

COPIES_MAX = 64 * 2**20  # bytes of all copies of the messages of one request
PING_INTERVAL = 5.0  # seconds; TCP alone takes many minutes to notice that the other side is gone
PING_WAIT = 10.0  # seconds in which a ping must be answered

# Below the prefix: no client can name it, nor publish there, since it is not UTF-8.
CONTROL = b"\xffcontrol"
# What stands there around the copies of a message for several channels, which are one event: this with a
# checksum of the message, and the end.
COPIES = b"copies "
COPIES_END = COPIES + b"end"

ResponseError = txredisapi.ResponseError  # an error that Redis answers
REFUSED = (ResponseError, NotAllowed, WrongServer)  # what a command fails with that was not done

_NOT_ALLOWED = ("NOPERM", "NOAUTH", "WRONGPASS")
_WRONG_SERVER = ("READONLY", "MASTERDOWN")


class ReplyTooLong(Exception):
    """Redis has sent a reply that is larger than the limit."""


class PartlyDone(Exception):
    """Some commands of a transaction failed when they ran, others did not."""


class NoTransaction(NotAllowed, PartlyDone):
    """MULTI is not allowed: the commands behind it ran one by one."""


class RedisLink(txredisapi.RedisProtocol):  # type: ignore[misc]
    """A connection that sends commands. ended, lost, blocked: see ``link.Link``.

    username, password, db: for the log-in, as far as they are needed. prefix: of all channels.
    must_be_master: a replica is refused. Behind one address, or by sentinels, a server may be named that was
    the master once.
    """

    must_be_master = True
    is_subscriber = False  # then no other commands are allowed after the first subscription
    blocked: str | None = None
    reply_max = 64 * 2**20  # bytes of one reply; 0: no limit

    def __init__(
        self,
        reactor: IReactorTime,
        username: str | None,
        password: str | None,
        db: int | None,
        prefix: str = "",
    ) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.callLater = reactor.callLater
        self.ended: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self.address: tuple[str, int] | None = None  # where sentinels said that it is
        self._error: Exception | None = None  # why we end the connection
        self._username = username
        self._password = password
        self._db = db
        self._prefix = prefix.encode()
        self._reactor = reactor
        self._unparsed = 0  # bytes since the last reply was complete
        self._encoding = Slices(reactor)
        self._pipelines: deque[PipelineAnswers] = deque()  # whose answers are to come, in this order
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor

    def connectionMade(self) -> None:
        """Disable Nagle's algorithm, which would delay a command until the one before is answered."""
        super().connectionMade()
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:  # a UNIX socket has none
            set_no_delay(True)
            self.transport.setTcpKeepAlive(True)

    def log_in(self) -> Deferred[Any]:
        """Log in, and ping: this fails if a password is missing, or Redis is still loading."""
        return Deferred.fromCoroutine(self._log_in())

    async def _log_in(self) -> None:
        try:
            if self._password:
                await self.auth(self._password, self._username or "")
            if self._db is not None:
                await self.select(self._db)
            await self.ping()
            if self.must_be_master:
                await self._check_role()
        except txredisapi.ConnectionError:
            raise self._reason() from None
        self._pinging.start(PING_INTERVAL, now=False)

    async def _check_role(self) -> None:
        """Raise WrongServer if this is a replica. Without the right to ROLE, READONLY errors show that."""
        try:
            role = (await self.command("ROLE"))[0]
        except (NotAllowed, ResponseError):
            return
        if role != b"master":
            raise WrongServer("it is not the master")

    def command(self, *words: Word) -> Deferred[Any]:
        """Send one command. Fires with the answer.

        Fails with ResponseError, NotAllowed, WrongServer, or the reason why the connection was lost.
        """
        d: Deferred[Any]
        try:
            d = self.execute_command(*words)
        except (UnicodeError, txredisapi.ConnectionError):
            d = fail()
        return d.addErrback(self._explain)

    async def transaction(self, commands: Iterable[Command]) -> list[Any]:
        """Run the commands in one step, all of them or none. Returns their answers.

        Raises the error of the first command that Redis refuses; NoTransaction if that is MULTI, and another
        command has run.
        """
        answers = await self._pipeline(chain(((b"MULTI",),), commands, ((b"EXEC",),)))
        for answer in answers:
            if isinstance(answer, Exception):
                error = self._explained(answer)
                has_run = answer is answers[0] and not all(isinstance(each, Exception) for each in answers)
                raise NoTransaction(str(error)) if has_run and isinstance(error, NotAllowed) else error
        result: list[Any] = answers[-1]
        return result

    async def _pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """Send these commands together, with no other between them. Returns their answers, also errors.

        Very many words are encoded in slices. Raises the reason why the connection was lost; NotPublished if
        that was before anything was sent.
        """
        encoding = finish_in_turns(encode_in_slices(commands), self._encoding)
        pieces, count = await encoding if isinstance(encoding, Deferred) else encoding
        if not self.connected:
            raise NotPublished(text_of(self._reason()))
        self.transport.writeSequence(pieces)
        answers: Deferred[list[Any]] = Deferred()
        waiting = self.replyQueue.get()

        def fire(found: Any) -> None:
            if not answers.called:  # the publisher may no longer wait
                answers.callback(found)

        waiting.addCallback(fire)
        self._pipelines.append(PipelineAnswers(count, waiting))
        found = await answers
        if isinstance(found, Exception):
            raise self._reason()
        return found

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Any]:
        """PUBLISH to each channel. Returns when Redis has accepted all messages, without ids.

        Raises Refusal for a message that would take too much memory, since each channel has a copy.
        """
        if sum(len(each.data) * len(each.channels) for each in publications) > COPIES_MAX:
            raise Refusal(413, f"the copies for all channels have more than {COPIES_MAX >> 20} MiB")
        try:
            if all(len(each.channels) == 1 for each in publications):
                if len(publications) == 1:
                    await self.command(*next(self._each_copy(publications)))
                else:
                    check_answers(await self.transaction(self._each_copy(publications)))
            else:
                await self._publish_announced(publications)
        except PartlyDone:
            raise
        except REFUSED as error:
            raise NotPublished(str(error)) from None
        return [None] * len(publications)

    def _each_copy(self, publications: Iterable[Publication]) -> Iterator[Command]:
        for each in publications:
            for channel in each.channels:
                yield b"PUBLISH", self._prefix + channel.encode(), each.data

    async def _publish_announced(self, publications: Sequence[Publication]) -> None:
        for publish in (b"SPUBLISH", b"PUBLISH"):  # see `publish_order`
            try:
                check_answers(await self.transaction(self._each_announced(publish, publications)))
                return
            except PartlyDone:
                raise
            except (NotAllowed, ResponseError):
                continue  # no such command, or no right to the channel for orders: nothing was published
        check_answers(await self.transaction(self._each_copy(publications)))

    def _each_announced(self, publish: bytes, publications: Iterable[Publication]) -> Iterator[Command]:
        name = self._prefix + CONTROL
        for each in publications:
            if len(each.channels) > 1:
                yield publish, name, b"%b%d" % (COPIES, zlib.crc32(each.data))
            yield from self._each_copy([each])
            if len(each.channels) > 1:
                yield publish, name, COPIES_END

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Publish an order to every server that shares the prefix.

        Sharded pub/sub (from Redis 7.0 on) is not matched by patterns, so no client can receive the order,
        and PUBSUB lists only the channels of clients. Before 7.0, plain pub/sub is used.
        """
        return self._send_order(order).addErrback(not_published)

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        """Publish a message that arrives on the connection that subscribes."""
        return self._send_order(json.dumps({"heartbeat": token}).encode())

    def _send_order(self, order: bytes) -> Deferred[Any]:
        name = self._prefix + CONTROL
        return self._sharded(self.command(b"SPUBLISH", name, order), b"PUBLISH", name, order)

    def _sharded(self, d: Deferred[Any], *otherwise: bytes) -> Deferred[Any]:
        def try_the_other(failure: Failure) -> Deferred[Any]:
            failure.trap(ResponseError)
            if "unknown command" not in str(failure.value):
                return fail(failure)
            return self.command(*otherwise)

        return d.addErrback(try_the_other)

    def log_out(self) -> None:
        """End the connection; Redis has no command for that."""
        self.transport.loseConnection()

    def tryConvertData(self, data: Any) -> Any:
        """Return the data unconverted. Without this, txredisapi would walk through each reply."""
        return data

    def dataReceived(self, data: bytes, *args: Any) -> None:
        """Read bytes. If they are not Redis's protocol, hiredis raises an error."""
        if not args:  # without hiredis, txredisapi passes the rest of a read again
            self._unparsed += len(data)
        if 0 < self.reply_max < self._unparsed:
            self.abort(ReplyTooLong(f"one reply is longer than {self.reply_max} bytes"))
            return
        try:
            super().dataReceived(data, *args)
        except txredisapi.InvalidData as error:
            self.abort(error)

    def replyReceived(self, reply: Any) -> None:
        """Note that a reply is complete; the answers of a pipeline are passed on together."""
        self._unparsed = 0
        pipelines = self._pipelines
        if pipelines and self.replyQueue.waiting[0] is pipelines[0].waiting:
            answers = pipelines[0].add(reply)
            if answers is not None:
                pipelines.popleft()
                self.replyQueue.put(answers)
        else:
            super().replyReceived(reply)

    def _build_command(self, *words: Word, **_: object) -> bytes:
        return encode_command(words)

    def abort(self, error: Exception) -> None:
        """End the connection at once, for this reason."""
        if self._error is None:
            self._error = error
        self.transport.abortConnection()

    def connectionLost(self, why: Failure) -> None:
        """Fail everything that waits for an answer."""
        self.lost = self._error or why.value
        self._pipelines.clear()
        if self._pinging.running:
            self._pinging.stop()
        super().connectionLost(why)
        self.ended.callback(self._reason())

    def _explain(self, failure: Failure) -> Failure:
        """Convert an error of the library into one of ours."""
        explained = self._explained(failure.value)
        return failure if explained is failure.value else Failure(explained)

    def _explained(self, error: BaseException | None) -> BaseException:
        if isinstance(error, txredisapi.ConnectionError):
            return self._reason()  # the reason why the connection was lost, instead of the fact
        if isinstance(error, ResponseError):
            text = str(error)
            if text.startswith(_NOT_ALLOWED):
                return NotAllowed(text)
            if text.startswith(_WRONG_SERVER):
                # Without this, a publisher would be refused until the server is restarted.
                self.abort(WrongServer(text))
                return WrongServer(text)
        return error or self._reason()

    def _reason(self) -> BaseException:
        return self.lost or ConnectionLost()

    def _ping(self) -> Deferred[Any]:
        d: Deferred[Any]
        if self.must_be_master and not self.is_subscriber:
            d = Deferred.fromCoroutine(self._check_role())
        else:
            d = self.ping()
        return d.addTimeout(PING_WAIT, self._reactor).addErrback(self._ping_failed)

    def _ping_failed(self, failure: Failure) -> None:
        if failure.check(TimeoutError):
            self.abort(TimeoutError("no answer to a ping"))
        elif failure.check(WrongServer):
            self.abort(WrongServer(str(failure.value)))


def not_published(failure: Failure) -> Failure:
    """Convert the error of a command that publishes into NotPublished if Redis has refused the command."""
    refused = failure.check(*REFUSED)
    return Failure(NotPublished(str(failure.value))) if refused else failure


def check_answers(answers: list[Any]) -> list[Any]:
    """The answers of a transaction, if no command failed.

    Raises NotPublished if all failed, PartlyDone if only some did.
    """
    errors = [each for each in answers if isinstance(each, Exception)]
    if not errors:
        return answers
    if len(errors) == len(answers):
        raise NotPublished(str(errors[0]))
    raise PartlyDone(str(errors[0]))
