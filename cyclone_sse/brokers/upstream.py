"""What the brokers share that fetch their messages from a server: a connection that is kept up.

A second connection, opened with the first message to hand over, is for publishing: Redis allows
none on a connection that subscribes or waits, and RabbitMQ stops reading from one that publishes when it
is short of memory, which must not hold up subscriptions.

``ClientService`` does not do here: it logs each attempt, and Twisted 26.10 does not foresee that
a connection is lost while it is being prepared, which is how RabbitMQ answers a wrong password.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    FirstError,
    TimeoutError,
    maybeDeferred,
)
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cyclone_sse.brokers.base import Broker, UnsupportedType
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal, Unavailable

GREETING_WAIT = 10.0  # seconds in which a connection must be made and the log-in answered
PUBLISH_WAIT = 5.0  # seconds in which the upstream must take a message
FIRST_RETRY = 0.25  # seconds
RETRY_FACTOR = 1.5
RETRY_JITTER = 1.0  # seconds: a hundred instances are not to come back in the same moment
SETTLED = 20.0  # seconds after which a connection was no failure
QUIET = 60.0  # seconds between two lines of one kind about what strangers or publishers do

_UNREACHABLE = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, TimeoutError)


class Link(Protocol):
    """A connection, as the brokers build it from their library's protocol."""

    transport: Any
    gone: Deferred[BaseException]  # fires with the reason when the connection is lost
    lost: BaseException | None  # that reason

    def greet(self) -> Deferred[Any]:
        """Log in, and be sure that the other side answers. Fails with what it says."""

    def publish(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Hand over messages. Fires when the upstream has taken them, with their ids as far as it gives
        some. Fails with Refusal where the publisher is at fault."""

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Hand over an order to all servers."""

    def leave(self) -> Deferred[Any] | None:
        """End the connection in an orderly way."""


class UpstreamBroker(Broker):
    """Base of the brokers that fetch their messages from a server.

    server: what it is called in the log. longest_retry: seconds between two attempts to connect, at most.
    carries_types: messages can have a type. carries_retry: and a reconnection time.
    """

    server = ""
    longest_retry = 20.0
    carries_types = False
    carries_retry = False

    def __init__(self, settings: Mapping[str, Any], name: str, reactor: Any = None, **how: Any) -> None:
        super().__init__(settings, name, reactor=reactor, **how)
        self._link: Any = None  # the Link where messages come from
        self._publisher: Link | None = None
        self._publisher_lock = DeferredLock()
        self._loop: Deferred[None] | None = None
        self._leaving = False  # the end: connect no more
        self._state = ""  # what the log said last
        self._said: dict[str, float] = {}  # when a line was last logged that is logged seldom
        self._sender = secrets.token_hex(8)  # of our orders

    # What a subclass does.

    def open(self, publishing: bool) -> Deferred[Any]:
        """Make a connection; for messages to come, or for publishing."""
        raise NotImplementedError

    async def prepare(self, link: Any) -> None:
        """What else to do on a connection for messages before it counts as one."""

    async def serve(self, link: Any) -> None:
        """Work on a connection for messages. What it raises ends the connection."""

    # The hooks of Broker.

    @property
    def available(self) -> bool:
        """Whether there is a connection for messages to come."""
        return self._link is not None

    def connect(self) -> Deferred[Any] | None:
        """Be connected from now on, as far as it is in our power."""
        self._loop = Deferred.fromCoroutine(self._stay_connected())
        self._loop.addErrback(lambda failure: failure.trap(CancelledError))
        self._loop.addErrback(self._bug, "connection")
        return None

    async def _disconnect(self) -> None:
        self._leaving = True
        if self._loop is not None:
            self._loop.cancel()
        links = [link for link in (self._link, self._publisher) if link is not None]
        self._link = self._publisher = None
        await DeferredList([maybeDeferred(link.leave) for link in links], consumeErrors=True)

    def disconnect(self) -> Deferred[None]:
        """Let go of all connections."""
        return Deferred.fromCoroutine(self._disconnect())

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Fires when the upstream has taken everything, with the ids that it gave."""
        for each in publications:
            if each.type is not None and not self.carries_types:
                raise UnsupportedType(
                    f"the broker {self.name} has no place for an event's type: leave out event"
                )
            if each.retry is not None and not self.carries_retry:
                raise UnsupportedType(f"the broker {self.name} has no place for a retry: leave it out")
        return self._hand_over(lambda link: link.publish(publications))

    def control(self, order: Mapping[str, Any]) -> Deferred[int]:
        """Carry it out here, and hand it over to the other servers."""
        count = self.obey(order)
        text = json.dumps({**order, "from": self._sender}).encode()
        return self._hand_over(lambda link: link.publish_order(text)).addCallback(lambda _: count)

    def obey_json(self, order: bytes) -> None:
        """An order came in. Anybody who can publish upstream may have written it."""
        try:
            decoded = json.loads(order)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            self.say_seldom("an order from {server} is no JSON object: left out", server=self.server)
        elif decoded.get("from") != self._sender:
            self.obey(decoded)

    def say_seldom(self, line: str, **values: Any) -> None:
        """Log an error, but not more than one line of this kind in a minute."""
        now = self.reactor.seconds()
        if now - self._said.get(line, -QUIET) >= QUIET:
            self._said[line] = now
            self.log.error(line, **values)

    # The connection for messages.

    async def _stay_connected(self) -> None:
        delay = backoffPolicy(
            FIRST_RETRY,
            self.longest_retry - RETRY_JITTER,
            RETRY_FACTOR,
            lambda: random.uniform(0, RETRY_JITTER),
        )
        attempt = 0
        while True:
            try:
                link = await self._open(publishing=False)
            except CancelledError:
                raise
            except Exception as error:
                if self._leaving:
                    return  # an endpoint that is cancelled says so by an error of its own
                self._tell_failure(error)
            else:
                since = self.reactor.seconds()
                self._connected(link)
                reason = await link.gone
                self._link = None
                self._state = "away"
                self.log.error("lost {server}: {reason}", server=self.server, reason=text_of(reason))
                if self.reactor.seconds() - since > SETTLED:
                    attempt = 0
            await deferLater(self.reactor, delay(attempt))
            attempt += 1

    async def _open(self, publishing: bool) -> Any:
        link = await self.open(publishing).addTimeout(GREETING_WAIT, self.reactor)
        try:
            await link.greet().addTimeout(GREETING_WAIT, self.reactor)
            if not publishing:
                await self.prepare(link)
        except BaseException:  # also when we are told to stop
            link.transport.abortConnection()
            raise
        return link

    def _connected(self, link: Link) -> None:
        if self._state:
            self.hub.counters.broker_reconnects += 1
        self.log.info(
            "{what} {server}", what="back at" if self._state else "connected to", server=self.server
        )
        self._state = "connected"
        self._link = link
        Deferred.fromCoroutine(self._serve(link)).addErrback(self._bug, "connection")

    async def _serve(self, link: Link) -> None:
        try:
            await self.serve(link)
        except Exception:
            if link.lost is not None:
                return  # what was under way failed with the connection
            link.transport.abortConnection()
            raise

    def _tell_failure(self, error: Exception) -> None:
        """Log why there is no connection, but once, not at each attempt."""
        unreachable = isinstance(error, _UNREACHABLE)
        state = "away" if unreachable else text_of(error)
        if self._state != state:
            self._state = state
            self.log.error(
                "{what} {server}: {reason}; trying on",
                what="cannot reach" if unreachable else "refused by",
                server=self.server,
                reason=text_of(error),
            )

    # The connection for publishing.

    def _hand_over(self, command: Callable[[Any], Deferred[Any]]) -> Deferred[Any]:
        d = Deferred.fromCoroutine(self._publish(command))
        d.addTimeout(PUBLISH_WAIT, self.reactor)
        return d.addErrback(self._unavailable)

    async def _publish(self, command: Callable[[Any], Deferred[Any]]) -> Any:
        link = await self._publishing_link()
        try:
            return await command(link)
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
        """Tell the log why, and the publisher only that it is so."""
        error = failure.value
        if isinstance(error, FirstError):
            error = error.subFailure.value
        if isinstance(error, Refusal):
            raise error
        self.say_seldom(
            "{server} does not take what is published: {reason}", server=self.server, reason=text_of(error)
        )
        raise Unavailable("the broker is away") from None


def text_of(error: BaseException | None) -> str:
    """What an error says, in one line for the log."""
    if isinstance(error, FirstError):
        error = error.subFailure.value
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return "no answer in time"
    if isinstance(error, TimeoutError) and len(error.args) > 1:
        return "no answer in time"  # of `addTimeout`, which would name the Deferred
    return str(error).rstrip(".") or type(error).__name__
