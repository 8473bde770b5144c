"""The server: its steps from the bound ports to the last connection that is gone.

Start: the ports are bound while the process still has its rights; the broker starts; the ports are opened
when the broker knows the events that were published before. Stop: /readyz answers 503 for a while; no
connections are accepted; each stream is sent its reconnection time and is ended, evenly spread over some
time; published events are delivered; the broker stops; the remaining connections are cut off. A second order
to stop skips all waiting.

Knows an application and its connections; nothing of signals, processes or log files.
"""

from __future__ import annotations

import atexit
import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse import __version__, slices
from cyclone_sse.access.rules import rules_of
from cyclone_sse.brokers.link import BROKER_AWAY
from cyclone_sse.daemon.admin import Admin
from cyclone_sse.daemon.exposure import publishers, subscribers, warnings
from cyclone_sse.daemon.listener import Listener, set_inherited_options
from cyclone_sse.daemon.metrics import Sources
from cyclone_sse.daemon.proxy_protocol import proxied
from cyclone_sse.daemon.sockets import ADMIN, HTTPS, PROXIED, Bound
from cyclone_sse.daemon.turn_watch import TurnWatch
from cyclone_sse.errors import Ending, StartError, call_each
from cyclone_sse.http.connection import STREAMING, Connection
from cyclone_sse.http.server_state import EXPIRED_AT_ONCE, ServerState
from cyclone_sse.options import with_defaults
from cyclone_sse.presence_url import PresenceUrl
from cyclone_sse.reactors import reactor_or_global
from cyclone_sse.slices import Slices

STOP_GRACE = 2.0  # seconds for clients to receive the bytes that wait for them when the server stops
# Seconds for a request that is on its way on a connection that was accepted before.
LAST_REQUEST = 1.0
# Milliseconds until a client of a drained server reconnects. Without this a native EventSource meets
# the 502 of a proxy and gives up for good (WHATWG HTML 9.2.3), and all clients reconnect at once.
RECONNECTION_TIME = (2000, 6000)


def last_retry() -> bytes:
    """Make the ``retry`` field that one stream is sent before its end."""
    return b"retry: %d\n\n" % random.randint(*RECONNECTION_TIME)


class ServerService(Service):
    """Serves an application on its ports.

    application: the cyclone application, and as such the factory of connections. settings: the options;
    missing ones have their defaults. tls: makes the transports of the TLS port, None if there is none.
    sockets: returns the bound sockets, or raises ValueError. on_open: called when the ports are open.
    reactor: the global one if None.
    """

    log = Logger()

    def __init__(
        self,
        application: Any,
        settings: Any,
        tls: Any,
        *,
        sockets: Callable[[], Sequence[Bound]],
        on_open: Callable[[], None] | None = None,
        reactor: Any = None,
    ) -> None:
        reactor = reactor_or_global(reactor)
        self.application = application
        self.settings = with_defaults(settings)
        self.tls = tls
        self.reactor = reactor
        self._phase: Literal["starting", "open", "draining"] = "starting"
        self._presence_url: PresenceUrl | None = None
        self.bound: Sequence[Bound] = ()
        self._sockets = sockets
        self._on_open = on_open
        self.listeners: list[Listener] = []
        self._until_the_end: list[Listener] = []  # those that stay open while the others are closed
        self.connections = ServerState(self.settings, reactor, application.broker.hub.counters.refusals)
        self._sweeper = LoopingCall(self.connections.expire)
        self._sweeper.clock = reactor
        self._turn_watch = TurnWatch(reactor)
        self._step: Deferred[None] = Deferred()  # of the stop: fires when it is done or given up
        self._in_hurry = False
        application.protocol = partial(Connection, self.connections)
        application.noisy = False

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the ports, which may need the rights of root. Exits with one line if that fails."""
        try:
            self.bound = self._sockets()
        except ValueError as error:
            raise StartError(error) from None

    def startService(self) -> None:
        """Start serving. Exits with one line if the ports, or the history file, cannot be opened."""
        super().startService()
        for line in warnings(self.settings):
            self.log.warn("{line}", line=line)
        self._warn_of_certificate()
        self._sweeper.start(1.0, now=False).addErrback(self._bug)
        self._open_admin()
        rules = rules_of(self.application)
        rules.start()
        broker = self.application.broker
        if url := broker.settings["presence-url"]:
            self._presence_url = PresenceUrl(url, rules.publisher_key, self.reactor)
            broker.hub.presence.on_changes = self._presence_url.add
        try:
            started = broker.start()
        except ValueError as error:
            raise StartError(error) from None
        if started.called or (broker.lingers and not broker.hub.kinds.have_presence):
            self._open()  # Such a broker knows nothing of the past, and may be away for long.
        else:
            started.addCallback(lambda _: self._open()).addErrback(self._bug)

    def _open(self) -> None:
        """Open the public ports."""
        if self._phase == "draining":
            return
        public = [bound for bound in self.bound if bound.serves != ADMIN]
        for bound in public:
            set_inherited_options(bound.socket, self.settings["stall-timeout"])
            how = {"make_room": self.connections.make_room}
            if bound.serves == HTTPS:
                how |= {"transport": self.tls, "is_busy": lambda: self.tls.is_busy}
            factory = proxied(self.application) if bound.serves == PROXIED else self.application
            if not self._listen(bound, bound.factory or factory, **how):
                return  # Without this, the log and systemd would be told that the server serves.
        self._phase = "open"
        self.log.info(
            "cyclone-sse serves {addresses} with the {broker} broker; version {version}; "
            "publishing by HTTP: {publishers}; subscribing: {subscribers}",
            addresses=" and ".join(bound.url for bound in public),
            broker=self.application.broker.name,
            version=__version__,
            publishers=publishers(self.settings),
            subscribers=subscribers(self.settings),
        )
        if self._on_open is not None:
            self._on_open()

    def _open_admin(self) -> None:
        """Open the admin port before the others: it also reports why those are not open."""
        for bound in self.bound:
            if bound.serves == ADMIN:
                self._turn_watch.start()
                # It may use the last descriptors. Without this, a healthy server that is full does not answer
                # /healthz, and is killed with all its clients.
                self._listen(bound, Admin(self).site(), reserve=0)
                self.log.info("metrics and health at {address}", address=bound.url)

    def _listen(self, bound: Bound, factory: Any, **how: Any) -> bool:
        """Listen on the socket; returns whether that has succeeded. If not, the process ends."""
        listener = Listener(bound.socket, factory, self.reactor, shared=bound.shared, **how)
        try:
            listener.startListening()
        except OSError as error:
            self._fail(f"cannot listen on {bound.url}: {error.strerror}")
            return False
        # The admin port reports the drain, unless the next worker has it already.
        stays = bound.serves == ADMIN and not bound.shared
        (self._until_the_end if stays else self.listeners).append(listener)
        return True

    def _fail(self, reason: str) -> None:
        if not self.reactor.running:
            raise StartError(reason)
        self.log.critical("{reason}", reason=reason)
        # Without this, the process would end with 0: twistd passes on no failure of a reactor that runs.
        atexit.register(os._exit, 1)
        self.reactor.stop()

    # While it runs.

    def reload(self) -> None:
        """Read the certificates, keys, secrets and kinds of channel again.

        Connections stay open. Raises ValueError with all mistakes; in that case the old ones stay in use.
        """
        readers = [rules_of(self.application).reload, self.application.broker.hub.reload_kinds]
        if self.tls is not None:
            readers += [self.tls.reload, self._warn_of_certificate]
        call_each(readers)

    def _warn_of_certificate(self) -> None:
        for line in self.tls.warnings(time.time()) if self.tls is not None else ():
            self.log.warn("{line}", line=line)

    def not_ready(self) -> list[str]:
        """The reasons why the server must not receive clients at present; none if it may."""
        reasons: list[str] = [] if self._phase == "open" else [self._phase]
        broker = self.application.broker
        if broker.problem not in (None, BROKER_AWAY):
            reasons.append(broker.problem)
        elif not broker.available:
            reasons.append("broker away")
        return reasons

    def sources(self) -> Sources:
        """The sources of this server's figures."""
        return Sources(
            self.application.broker,
            connections=lambda: len(self.connections.open),
            longest_turn=self._turn_watch.longest,
            certificate_expiry=lambda: None if self.tls is None else self.tls.expiry,
            auth=lambda: rules_of(self.application).auth_figures,
        )

    # Stop.

    def stopService(self) -> Deferred[None]:
        """End all streams and connections. Fires when that is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Skip all waiting, after a second order to stop."""
        self._in_hurry = True
        _fire(self._step)

    async def _stop(self) -> None:
        self._phase = "draining"
        drain: float = self.settings["drain"]
        # Until a load balancer has noticed /readyz it sends clients, who must not meet a closed port.
        if self.settings["drain-delay"]:
            await self._wait(Deferred(), self.settings["drain-delay"])
        # What waits in the queue of the port is still accepted; the next request of a connection is its last.
        self._stop_accepting()
        self.connections.ending = True
        self.application.broker.hub.end(Ending.DRAINED, over=drain, farewell=last_retry)
        # A request may be on its way on a connection that was idle.
        await self._wait(self.connections.gone(), LAST_REQUEST)
        await self._shut(streams=not drain)
        # Slow clients have some time to receive the bytes that wait for them.
        await self._wait(self.connections.gone(), drain + STOP_GRACE)
        await self._shut(streams=True)
        # Published messages are passed to the broker before the connection to it is closed.
        await self._wait(Deferred.fromCoroutine(self.application.broker.stop()), STOP_GRACE)
        await self._for_all(lambda connection: connection.transport.abortConnection())
        for listener in self._until_the_end:
            listener.stopListening()
        rules_of(self.application).stop()
        if self._presence_url is not None:
            await self._wait(Deferred.fromCoroutine(self._presence_url.stop()), STOP_GRACE)
            self._presence_url.abort()
        if self._sweeper.running:
            self._sweeper.stop()
        self._turn_watch.stop()
        # The reactor closes all transports at the end of this. Without a turn in between it would close that
        # of the broker while it is reading from it, and then try to write to it.
        await deferLater(self.reactor, 0)

    def _stop_accepting(self) -> None:
        for bound in self.bound:
            bound.unlink()
        for listener in self.listeners:
            listener.stopListening()

    async def _shut(self, streams: bool) -> None:
        """Close idle connections, and others when their request is answered. streams: also close streams."""
        await self._for_all(lambda each: each.shut() if streams or each.state is not STREAMING else None)

    def _for_all(self, step: Callable[[Connection], object]) -> Deferred[None]:
        """Call this with each connection, in several turns. Fires when that is done.

        Without this, the end of ten thousand idle connections would stop the streams, which still drain, for
        some tenths of a second.
        """
        task = slices.each(list(self.connections.open), step, EXPIRED_AT_ONCE)
        return Slices(self.reactor).add(task)

    async def _wait(self, event: Deferred[Any], seconds: float) -> None:
        """Wait for this event for at most this time in seconds, and not at all after ``hurry``."""
        over = self._step = Deferred()
        timer = self.reactor.callLater(0 if self._in_hurry else seconds, _fire, over)
        event.addErrback(self._bug).addCallback(lambda _: _fire(over))
        await over
        if timer.active():
            timer.cancel()

    def _bug(self, failure: Failure) -> None:
        self.log.failure("the service failed", failure)


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)
