"""What the Redis and the AMQP broker share: a connection that is kept up, and its subscriptions.

What the upstream is subscribed to follows the registry and nothing else. While there is a
connection, each change of the registry is one command on it; when there is a new connection,
everything that the registry holds at that moment is subscribed again. So nothing is lost when
clients come and go while the upstream is away, however often.

A second connection, opened with the first message to hand over, is for publishing: Redis allows
none on a connection that subscribes, and RabbitMQ stops reading from one that publishes when it
is short of memory, which must not hold up subscriptions.

``ClientService`` does not do here: it logs each attempt, and Twisted 26.10 does not foresee that
a connection is lost while it is being prepared, which is how RabbitMQ answers a wrong password.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    FirstError,
    TimeoutError,
    maybeDeferred,
)
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cyclone_sse.brokers.base import Broker, UnsupportedType
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Unavailable

GREETING_WAIT = 10.0  # seconds in which a connection must be made and the log-in answered
PUBLISH_WAIT = 5.0  # seconds in which the upstream must take a message
FIRST_RETRY = 0.25  # seconds
LAST_RETRY = 20.0  # seconds between two attempts, at most
RETRY_FACTOR = 1.5

_UNREACHABLE = (ConnectError, ConnectionClosed, DNSLookupError, TimeoutError)


class Link(Protocol):
    """A connection, as the two brokers build it from their library's protocol."""

    transport: Any
    gone: Deferred[BaseException]  # fires with the reason when the connection is lost
    lost: BaseException | None  # that reason

    def greet(self) -> Deferred[Any]:
        """Log in, and be sure that the other side answers. Fails with what it says."""

    def subscribe(self, channel: str) -> Deferred[Any]:
        """Ask for all messages of a channel. Fires when the upstream has confirmed."""

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        """The reverse; whatever was asked for is carried out in that order."""

    def publish(self, channels: Sequence[str], message: bytes) -> Deferred[Any]:
        """Hand over a message. Fires when the upstream has taken it."""

    def leave(self) -> Deferred[Any] | None:
        """End the connection in an orderly way."""


class UpstreamBroker(Broker):
    """Base of the brokers that fetch their messages from a server.

    server: what it is called in the log.
    """

    def __init__(self, settings: Mapping[str, Any], name: str, server: str, reactor: Any = None) -> None:
        super().__init__(settings, name, reactor=reactor)
        self.server = server
        self._link: Link | None = None  # where the subscriptions are
        self._unconfirmed: dict[str, Deferred[None]] = {}  # channels that were never confirmed yet
        self._publisher: Link | None = None
        self._publisher_lock = DeferredLock()
        self._loop: Deferred[None] | None = None
        self._state = ""  # what the log said last

    def open(self, publishing: bool) -> Deferred[Link]:
        """Make a connection; for the subscriptions, or for publishing. The subclass knows how."""
        raise NotImplementedError

    # The hooks of Broker.

    def connect(self) -> None:
        """Be connected from now on, as far as it is in our power."""
        self._loop = Deferred.fromCoroutine(self._stay_connected())
        self._loop.addErrback(lambda failure: failure.trap(CancelledError))
        self._loop.addErrback(self._bug, "connection")

    async def _disconnect(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
        links = [link for link in (self._link, self._publisher) if link is not None]
        self._link = self._publisher = None
        await DeferredList([maybeDeferred(link.leave) for link in links], consumeErrors=True)

    def disconnect(self) -> Deferred[None]:
        """Let go of all connections."""
        return Deferred.fromCoroutine(self._disconnect())

    def subscribe(self, channel: str) -> Deferred[None]:
        """Fires when the upstream has confirmed, which may be long after it was away."""
        waiting = self._unconfirmed[channel] = Deferred()
        if self._link is not None:
            self._ask(self._link, channel)
        return waiting

    def unsubscribe(self, channel: str) -> None:
        """Give the subscription back; when the upstream is away there is none."""
        self._unconfirmed.pop(channel, None)
        if self._link is not None:
            # It fails when the connection does, and then it has come true all the same.
            self._link.unsubscribe(channel).addErrback(lambda _: None)

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Sequence[str | None]]:
        """Fires when the upstream has taken the messages for every channel."""
        if any(each.type is not None or each.retry is not None for each in publications):
            raise UnsupportedType(f"the {self.name} broker carries neither event nor retry")
        d = Deferred.fromCoroutine(self._publish_all(publications))
        d.addTimeout(PUBLISH_WAIT, self.reactor)
        d.addErrback(self._unavailable)
        return d

    # The connection for the subscriptions.

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                link = await self._open(publishing=False)
            except CancelledError:
                raise
            except Exception as error:
                self._tell_failure(error)
            else:
                since = self.reactor.seconds()
                self._connected(link)
                reason = await link.gone
                self._link = None
                self._state = "away"
                self.log.error("lost {server}: {reason}", server=self.server, reason=_text(reason))
                if self.reactor.seconds() - since > LAST_RETRY:
                    attempt = 0
            await deferLater(self.reactor, retry_delay(attempt))
            attempt += 1

    async def _open(self, publishing: bool) -> Link:
        link = await self.open(publishing).addTimeout(GREETING_WAIT, self.reactor)
        try:
            await link.greet().addTimeout(GREETING_WAIT, self.reactor)
        except Exception:
            link.transport.abortConnection()
            raise
        return link

    def _connected(self, link: Link) -> None:
        channels = self.interests.names()
        known = [channel for channel in channels if channel not in self._unconfirmed]
        self.log.info(
            "{what} {server}, {n} channels",
            what="back at" if self._state else "connected to",
            server=self.server,
            n=len(channels),
        )
        self._state = "connected"
        self._link = link
        asked = DeferredList([self._ask(link, channel) for channel in channels])
        asked.addCallback(lambda _: self._resumed(link, known))

    def _resumed(self, link: Link, known: Iterable[str]) -> None:
        if link is self._link and link.lost is None and known:
            self.interrupted(self.interests.names().intersection(known))

    def _ask(self, link: Link, channel: str) -> Deferred[None]:
        waiting = self._unconfirmed.get(channel)
        d = link.subscribe(channel)
        d.addCallback(self._answered, channel, waiting)
        d.addErrback(self._refused, link, channel)
        return d

    def _answered(self, _: object, channel: str, waiting: Deferred[None] | None) -> None:
        # It may have been given back since, and even asked for again: then that counts.
        if waiting is not None and self._unconfirmed.get(channel) is waiting:
            del self._unconfirmed[channel]
            waiting.callback(None)

    def _refused(self, failure: Failure, link: Link, channel: str) -> None:
        if link.lost is None and link is self._link:
            self.log.error(
                "{server} does not let us subscribe to {channel!r}: {reason}",
                server=self.server,
                channel=channel[:100],
                reason=_text(failure.value),
            )

    def _tell_failure(self, error: Exception) -> None:
        """Log why there is no connection, but once, not at each attempt."""
        unreachable = isinstance(error, _UNREACHABLE)
        state = "away" if unreachable else _text(error)
        if self._state != state:
            self._state = state
            self.log.error(
                "{what} {server}: {reason}; trying on",
                what="cannot reach" if unreachable else "refused by",
                server=self.server,
                reason=_text(error),
            )

    # The connection for publishing.

    async def _publish_all(self, publications: Sequence[Publication]) -> Sequence[str | None]:
        link = await self._publishing_link()
        try:
            for each in publications:
                await link.publish(each.channels, each.data)
            return [None] * len(publications)
        except CancelledError:
            # No answer in time: the next one is not to wait on the same connection.
            link.transport.abortConnection()
            raise

    async def _publishing_link(self) -> Link:
        await self._publisher_lock.acquire()
        try:
            if self._publisher is None:
                self._publisher = await self._open(publishing=True)
                self._publisher.gone.addCallback(self._publisher_gone)
            return self._publisher
        finally:
            self._publisher_lock.release()

    def _publisher_gone(self, _: object) -> None:
        self._publisher = None

    def _unavailable(self, failure: Failure) -> None:
        raise Unavailable(f"{self.server}: {_text(failure.value)}") from None


def retry_delay(attempt: int) -> float:
    """Seconds until the next attempt to connect, after so many in a row have failed.

    Random, so that a hundred instances do not come back in the same moment.
    """
    longest = min(FIRST_RETRY * RETRY_FACTOR ** min(attempt, 100), LAST_RETRY)
    return longest * random.uniform(0.5, 1.0)


def _text(error: BaseException | None) -> str:
    if isinstance(error, FirstError):
        error = error.subFailure.value
    if isinstance(error, CancelledError) or (isinstance(error, TimeoutError) and len(error.args) > 1):
        return "no answer in time"  # of `addTimeout`, which would name the Deferred
    return str(error).rstrip(".") or type(error).__name__
