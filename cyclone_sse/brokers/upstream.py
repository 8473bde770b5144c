"""The common part of the brokers that fetch messages from a server: a connection that is kept open.

A second connection is for publishing: see ``publishing_connection``.

An open connection may receive no messages, for example because its queue was deleted, or because a proxy has
switched to another server. So heartbeats are published like messages on one connection, and must arrive on
the other; if they do not, both connections are closed and opened again.

``ClientService`` is not enough here: it logs each attempt, and Twisted 26.10 does not handle a connection
that is lost during its set-up, as RabbitMQ does for a wrong password.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    maybeDeferred,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater

from cyclone_sse.brokers.base import Broker, channels_to_clear
from cyclone_sse.brokers.carried import check_carried
from cyclone_sse.brokers.heartbeats import Heartbeats
from cyclone_sse.brokers.link import BROKER_AWAY, Link, NotAllowed, WrongServer, text_of
from cyclone_sse.brokers.publishing_connection import PUBLISH_WAIT, PublishingConnection
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

LOG_IN_WAIT = 10.0  # seconds in which a connection must be made and the log-in answered
PENDING_OVERHEAD = 2000  # bytes of a message that waits, in addition to its own
FIRST_RETRY = 0.25  # seconds
RETRY_FACTOR = 1.5
RETRY_JITTER = 1.0  # seconds: without this, a hundred servers would reconnect at the same moment
STABLE = 20.0  # seconds after which a connection counts as one that worked
HEARTBEAT_INTERVAL = 5.0  # seconds
STILL_TRYING = "; still trying"  # the end of the line in the log about a connection that failed

_UNREACHABLE = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, TimeoutError)


L = TypeVar("L", bound=Link)


class UpstreamBroker(Broker, Generic[L]):
    """Base of the brokers that fetch their messages from a server.

    server: what it is called in the log. longest_retry: seconds between two attempts to connect, at most.
    has_heartbeat: messages are published and received on two connections, which a heartbeat connects.
    only_checks: the connections are for ``--check=1``, and must change nothing on the server.
    """

    server = ""
    longest_retry = 20.0
    has_heartbeat = True
    only_checks = False

    def __init__(
        self, settings: Mapping[str, Any], name: str, reactor: IReactorTime | None = None, **how: Any
    ) -> None:
        super().__init__(settings, name, reactor=reactor, **how)
        self._link: L | None = None  # where messages come from
        self._publishing = PublishingConnection(
            lambda: self._open(publishing=True), self._log_not_accepted, self._publisher_lost, self.reactor
        )
        self._loop: Deferred[None] | None = None
        self._stopping = False  # the end: never connect again
        self._logged = ""  # what the log said last
        self._sender = secrets.token_hex(8)  # of our orders
        self._heartbeats = Heartbeats(self._sender, self.reactor.seconds)
        self._checking = LoopingCall(self._check)
        self._checking.clock = self.reactor
        self._is_checking = False

    # Hooks for subclasses.

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Open a connection, for publishing or for receiving."""
        raise NotImplementedError

    async def set_up(self, link: L) -> None:
        """Prepare a connection for receiving, which counts as connected afterwards."""

    async def run(self, link: L) -> None:
        """Use a connection for receiving until it ends. An exception ends it."""

    async def check_server(self) -> None:
        """Raise WrongServer if this is no longer the server to talk to. Called every HEARTBEAT_INTERVAL."""

    async def check_publisher(self, publisher: Any) -> str | None:
        """The reason why messages are not accepted; None if they are. Called every HEARTBEAT_INTERVAL."""
        return await self._send_heartbeat(publisher) if self.has_heartbeat else None

    # The hooks of Broker.

    @property
    def problem(self) -> str | None:
        """The reason why messages cannot be received or published; None if they can."""
        if self._link is None:
            return BROKER_AWAY
        if self._publishing.failure is not None:
            return f"messages cannot be published: {self._publishing.failure}"
        if self._publishing.link is not None and self._publishing.link.blocked:
            return f"the broker accepts no messages: {self._publishing.link.blocked}"
        if self._heartbeats.are_late:
            return "a heartbeat sent through the broker does not arrive"
        return None

    def connect(self) -> Deferred[Any] | None:
        """Connect, and connect again whenever the connection is lost."""
        self._loop = Deferred.fromCoroutine(self._stay_connected())
        self._loop.addErrback(lambda failure: failure.trap(CancelledError))
        self._loop.addErrback(self._log_bug, "connection")
        self._checking.start(HEARTBEAT_INTERVAL, now=False)
        return None

    def connect_publisher(self) -> Deferred[Any]:
        """Open the connection for publishing, which fails with the reason if that is impossible."""
        return Deferred.fromCoroutine(self._publishing.connected()).addTimeout(PUBLISH_WAIT, self.reactor)

    async def _disconnect(self) -> None:
        self._stopping = True
        if self._checking.running:
            self._checking.stop()
        if self._loop is not None:
            self._loop.cancel()
        link, self._link = self._link, None
        ends = [self._publishing.stop(), None if link is None else maybeDeferred(link.log_out)]
        await DeferredList([end for end in ends if end is not None], consumeErrors=True)

    def disconnect(self) -> Deferred[None]:
        """End all connections."""
        return Deferred.fromCoroutine(self._disconnect())

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Publish all of these. Fires when the upstream has accepted them, with the ids that it assigns."""
        self.check_publishable(publications)
        size = sum(PENDING_OVERHEAD + len(each.data) + sum(map(len, each.channels)) for each in publications)
        return self._publishing.run(lambda link: link.publish(publications), size)

    def check_publishable(self, publications: Sequence[Publication]) -> None:
        """Raise Refusal for a publication that this broker cannot transmit."""
        check_carried(publications, self.carries, self.name)
        for each in publications:
            try:
                self.check_size(each.data)
            except ValueError as error:
                raise Refusal(413, str(error)) from None

    def control(self, order: Mapping[str, Any]) -> Deferred[int]:
        """Carry the order out here, and send it to the other servers."""
        count = self.obey(order)
        text = self.encode_order(order)
        return self._publishing.run(lambda link: link.publish_order(text), len(text)).addCallback(
            lambda _: count
        )

    def encode_order(self, order: Mapping[str, Any]) -> bytes:
        """The order as JSON with the name of this server, by which it recognises its own orders."""
        return json.dumps({**order, "from": self._sender}).encode()

    def obey_json(self, order: bytes) -> None:
        """Carry out an order from the upstream. This server's own are carried out already; but its order to
        forget channels is carried out once more in its place.

        Without this, a message of this server that was under way before the order would stay.
        """
        decoded = self.decode_order(order)
        if decoded is None:
            return
        if "heartbeat" in decoded:
            self._heartbeats.receive(str(decoded["heartbeat"]))
        elif not self.is_own(decoded):
            self.obey(decoded)
        elif (names := channels_to_clear(decoded)) is not None:
            self.clear(names)

    def decode_order(self, order: bytes) -> Mapping[str, Any] | None:
        """The order in a text that any client of the upstream may have written; None if it is none."""
        try:
            decoded = json.loads(order)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            self.log_rarely("ignored an order from {server}: it is not a JSON object", server=self.server)
            return None
        return decoded

    def is_own(self, order: Mapping[str, Any]) -> bool:
        """Whether this server has sent the order."""
        return order.get("from") == self._sender

    def current_links(self) -> list[Any]:
        """The connections that there are: the Link where messages come from, and the one for publishing."""
        return [link for link in (self._link, self._publishing.link) if link is not None]

    def _log_not_accepted(self, reason: str) -> None:
        self.log_rarely("could not publish to {server}: {reason}", server=self.server, reason=reason)

    def _publisher_lost(self, reason: BaseException) -> None:
        if isinstance(reason, WrongServer) and self._link is not None:
            self._link.abort(reason)  # it is most likely connected to the same server

    # The connection for receiving.

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
                if self._stopping:
                    return  # an endpoint that is cancelled fails with an error of its own
                self._log_failure(error)
            else:
                since = self.reactor.seconds()
                self._connected(link)
                reason = await link.ended
                self._link = None
                self._logged = "away"
                self.log.error("lost {server}: {reason}", server=self.server, reason=text_of(reason))
                if self.reactor.seconds() - since > STABLE:
                    attempt = 0
            await deferLater(self.reactor, delay(attempt))
            attempt += 1

    async def _open(self, publishing: bool) -> Any:
        link = await self.open_link(publishing).addTimeout(LOG_IN_WAIT, self.reactor)
        try:
            await link.log_in().addTimeout(LOG_IN_WAIT, self.reactor)
            if not publishing:
                await self.set_up(link)
        except BaseException:  # also when we are stopped
            link.transport.abortConnection()
            raise
        return link

    def _connected(self, link: L) -> None:
        if self._logged:
            self.hub.counters.broker_reconnects += 1
        self.log.info(
            "{what} {server}", what="reconnected to" if self._logged else "connected to", server=self.server
        )
        self._logged = "connected"
        self._link = link
        self._heartbeats.clear()
        self._publishing.failure = None  # of the outage that is over; it is tried again with the next check
        Deferred.fromCoroutine(self._run(link)).addErrback(self._log_bug, "connection")

    async def _run(self, link: L) -> None:
        try:
            await self.run(link)
        except (NotAllowed, WrongServer) as error:
            link.abort(error)
        except Exception:
            if link.lost is not None:
                return  # a request that was under way failed with the connection
            link.transport.abortConnection()
            raise

    def _log_failure(self, error: Exception) -> None:
        """Log why there is no connection, but once, not at each attempt."""
        unreachable = isinstance(error, _UNREACHABLE)
        problem = "away" if unreachable else text_of(error)
        if self._logged != problem:
            self._logged = problem
            self.log.error(
                "{what} {server}: {reason}" + STILL_TRYING,
                what="cannot reach" if unreachable else "refused by",
                server=self.server,
                reason=text_of(error),
            )

    # Proof that messages arrive.

    def end_links(self, error: Exception) -> None:
        """End both connections for this reason; they are opened again."""
        for link in self.current_links():
            link.abort(error)

    def _check(self) -> None:
        if self._link is None:
            return
        if self._heartbeats.are_lost:
            self._heartbeats.clear()
            self._link.abort(TimeoutError("a heartbeat sent through it did not arrive"))
            return
        if not self._is_checking:
            self._is_checking = True
            d = Deferred.fromCoroutine(self._check_upstream())
            d.addTimeout(PUBLISH_WAIT, self.reactor)  # without this, one that hangs would be the last
            d.addErrback(lambda failure: failure.trap(TimeoutError))
            d.addErrback(self._log_bug, "heartbeat").addBoth(self._checked)

    def _checked(self, _: object) -> None:
        self._is_checking = False
        if self._publishing.failure is not None:
            self._log_not_accepted(self._publishing.failure)

    async def _check_upstream(self) -> None:
        try:
            await self.check_server()
            # Also without heartbeats: else nothing would show that no message can be published.
            publisher = await self._publishing.connected()
            self._publishing.failure = await self.check_publisher(publisher)
        except WrongServer as error:
            self.end_links(error)
        except NotAllowed as error:
            self.log_rarely(
                "{server} does not allow the heartbeat: {reason}", server=self.server, reason=text_of(error)
            )
        except Exception:
            return  # the publishing connection is away: `problem` says so, and publishers receive 503

    async def _send_heartbeat(self, publisher: Link) -> str | None:
        if publisher.blocked:
            return None  # `problem` has the reason
        token = self._heartbeats.add()
        try:
            await publisher.publish_heartbeat(token).addTimeout(PUBLISH_WAIT, self.reactor)
        except BaseException as error:
            self._heartbeats.discard(token)
            if isinstance(error, CancelledError | TimeoutError):
                return text_of(error)
            raise
        return None
