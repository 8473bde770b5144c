"""The connection for publishing, opened for the first message, and again after a connection was lost.

Redis does not allow publishing on a connection that subscribes or waits, and RabbitMQ stops reading from a
connection that publishes when it is short of memory, which must not delay subscriptions. The size of the
waiting messages and the time that a publisher waits are limited. All that wait for the connection share one
attempt to open it, which has its own time: with the time of the publisher that waits longest, an attempt
would be cut short again and again while others publish.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import BROKER_AWAY, Link, NotPublished, text_of
from cyclone_sse.errors import Refusal, Unavailable

PUBLISH_WAIT = 5.0  # seconds in which the upstream must accept a message
BYTES_A_SECOND = 4 * 2**20  # bytes for which it has a second more, since they are sent in many turns
PENDING_MAX = 32 * 2**20  # bytes of messages that wait for the upstream


class Attempt:
    """One attempt to publish. size: bytes that wait. sent: the upstream may have received a part of it."""

    __slots__ = ("sent", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = False


class Failed(NamedTuple):
    """The outcome of an attempt that failed."""

    error: BaseException


class PublishingConnection:
    """Runs commands on one connection, each of them for a limited time.

    open: makes a connection, logged in. on_failure: called with the reason, for the log, when a command is
    not carried out. on_lost: called with the reason when the connection is lost.
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[Link]],
        on_failure: Callable[[str], object],
        on_lost: Callable[[BaseException], object],
        reactor: IReactorTime,
    ) -> None:
        self.link: Link | None = None
        # Why it could not be opened, did not answer, or, by the regular check of the broker, is of no use.
        self.failure: str | None = None
        self._open = open
        self._on_failure = on_failure
        self._on_lost = on_lost
        self._reactor = reactor
        self._opening: Deferred[None] | None = None
        self._waiting: list[Deferred[Link]] = []  # for the connection
        self._pending = 0  # bytes of messages that wait for the upstream
        self._stopping = False  # the server stops: never connect again

    def run(self, command: Callable[[Any], Awaitable[Any]], size: int) -> Deferred[Any]:
        """Run the command on the connection. size: bytes that wait meanwhile.

        Fails with Unavailable, or with the Refusal that the command raises.
        """
        if self._pending and self._pending + size > PENDING_MAX:
            return fail(self._unavailable("too many messages are waiting for it", False))
        attempt = Attempt(size)
        self._pending += size
        d = Deferred.fromCoroutine(self._run(command, attempt))
        d.addTimeout(PUBLISH_WAIT + size // BYTES_A_SECOND, self._reactor)
        return d.addBoth(self._end_attempt, attempt)

    async def connected(self) -> Link:
        """The connection; opens one if there is none. Raises the error if that fails."""
        if self._stopping:
            raise NotPublished("this server is stopping")
        if self.link is not None:
            return self.link
        waiting: Deferred[Link] = Deferred()
        self._waiting.append(waiting)
        if self._opening is None:
            self._opening = Deferred.fromCoroutine(self._open_for_all())
            self._opening.addBoth(self._opened)
        return await waiting

    async def _open_for_all(self) -> None:
        self.link = await self._open()
        self.link.ended.addCallback(self._lost)

    def _opened(self, result: Failure | None) -> None:
        """Continue with all that wait, also with those that wait from now on for another attempt."""
        self._opening = None
        self.failure = text_of(result.value) if isinstance(result, Failure) else None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.called:
                continue  # it no longer waits
            if self.link is not None:
                each.callback(self.link)
            else:
                each.errback(_plain(result.value if isinstance(result, Failure) else None))

    def stop(self) -> Deferred[Any] | None:
        """End the connection, and never open another. None if there is no connection."""
        self._stopping = True
        if self._opening is not None:
            self._opening.cancel()
        link, self.link = self.link, None
        return maybeDeferred(link.log_out) if link is not None else None

    async def _run(self, command: Callable[[Any], Awaitable[Any]], attempt: Attempt) -> Any:
        link = await self.connected()
        if link.blocked:
            raise NotPublished(link.blocked)
        attempt.sent = True
        try:
            return await command(link)
        except BaseException as error:
            if isinstance(error, CancelledError):
                # No answer in time: without a new connection, the next message would wait too.
                self.failure = text_of(error)
                link.transport.abortConnection()
            # Not raised: Twisted keeps the frames of a coroutine that fails in a reference cycle, and with
            # them the bodies of all that failed, until the next full collection.
            return Failed(_plain(error))

    def _lost(self, reason: BaseException) -> None:
        self.link = None
        self._on_lost(reason)

    def _end_attempt(self, result: Any, attempt: Attempt) -> Any:
        self._pending -= attempt.size
        if isinstance(result, Failure):
            error = _plain(result.value)
            result.cleanFailure()
        elif isinstance(result, Failed):
            error = result.error
        else:
            return result
        if isinstance(error, Refusal):
            return Failure(error)
        certain = not attempt.sent or isinstance(error, NotPublished)
        return Failure(self._unavailable(text_of(error), False if certain else "unknown"))

    def _unavailable(self, reason: str, published: Literal[False, "unknown"]) -> Unavailable:
        """Log the reason, and make the error for the publisher, which does not name it."""
        self._on_failure(reason)
        return Unavailable(BROKER_AWAY, published)


def _plain(error: BaseException | None) -> BaseException:
    """The error without its traceback."""
    error = error or ConnectionLost()
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
