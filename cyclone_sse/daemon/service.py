"""The server: its steps from the bound ports to the last connection that is gone.

Start: the ports are bound while the process still has its rights; the broker starts; the ports are
opened when what was published before is known. Stop: no new connections; each stream is told when
to come back and is ended, evenly spread over some time; what was taken from publishers goes out;
the broker goes; whoever is left is cut off. A second order to stop leaves out all waiting.

Knows an application and its connections; nothing of signals, processes or log files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from cyclone_sse.access.rules import rules_of
from cyclone_sse.daemon.admin import Admin
from cyclone_sse.daemon.exposure import warnings
from cyclone_sse.daemon.listener import Listener, prepare
from cyclone_sse.daemon.sockets import ADMIN, HTTPS, Bound
from cyclone_sse.errors import Ending
from cyclone_sse.http.connection import STREAMING, Connection
from cyclone_sse.http.server_state import ServerState
from cyclone_sse.options import with_defaults

STOP_GRACE = 2.0  # seconds for the clients to take what is under way when the server stops
# Seconds for a request that is on its way on a connection that was let in before.
LAST_REQUEST = 1.0
# Milliseconds after which a client that is sent away comes back: a native EventSource that meets a
# proxy's 502 gives up for good (WHATWG HTML 9.2.3), so not at once, and not all together.
FAREWELL = (2000, 6000)


def farewell() -> bytes:
    """What a stream is told before its end."""
    return b"retry: %d\n\n" % random.randint(*FAREWELL)


class ServerService(Service):
    """Serves an application on its ports.

    application: the cyclone application, and as such the factory of connections. settings: the
    options. tls: makes the transports of the TLS port, None to do without. sockets: gives the bound
    sockets, or raises ValueError. on_open: called when the ports are open. reactor: the global one if None.
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
        if reactor is None:
            from twisted.internet import reactor
        self.application = application
        self.settings = settings
        self.tls = tls
        self.reactor = reactor
        self.draining = False
        self.bound: Sequence[Bound] = ()
        self._sockets = sockets
        self._on_open = on_open
        self.listeners: list[Listener] = []
        self._until_the_end: list[Listener] = []  # those that stay while the others are closed
        self._is_open = False
        self.connections = ServerState(settings, reactor, application.broker.hub.counters.refusals)
        self._sweeper = LoopingCall(self.connections.expire)
        self._sweeper.clock = reactor
        self._step: Deferred[None] = Deferred()  # of the stop: fires when it is done or given up
        self._in_hurry = False
        application.protocol = partial(Connection, self.connections)
        application.noisy = False

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the ports, which may need rights that are given up after it."""
        try:
            self.bound = self._sockets()
        except ValueError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None

    def startService(self) -> None:
        """Begin to serve. Exits with one line when the ports, or the history file, cannot be opened."""
        super().startService()
        for line in warnings(with_defaults(self.settings)):
            self.log.warn("{line}", line=line)
        self._sweeper.start(1.0, now=False).addErrback(self._bug)
        self._open_admin()
        broker = self.application.broker
        try:
            started = broker.start()
        except ValueError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None
        if started.called or (broker.lingers and not broker.hub.presence.is_wanted):
            self._open()  # such a broker knows nothing of the past, and may be away for long
        else:
            started.addCallback(lambda _: self._open()).addErrback(self._bug)

    def _open(self) -> None:
        """Open the public ports."""
        if self.draining:
            return
        public = [bound for bound in self.bound if bound.serves != ADMIN]
        for bound in public:
            transport = self.tls if bound.serves == HTTPS else None
            prepare(bound.socket, self.settings["stall-timeout"])
            self._listen(bound, bound.factory or self.application, transport)
        self._is_open = True
        self.log.info(
            "cyclone-sse serves {addresses} with the {broker} broker",
            addresses=" and ".join(bound.url for bound in public),
            broker=self.application.broker.name,
        )
        if self._on_open is not None:
            self._on_open()

    def _open_admin(self) -> None:
        """Open the admin port before all others: it also tells why they are not open."""
        for bound in self.bound:
            if bound.serves == ADMIN:
                self._listen(bound, Admin(self).site())
                self.log.info("figures and health at {address}", address=bound.url)

    def _listen(self, bound: Bound, factory: Any, transport: Any = None) -> None:
        listener = Listener(bound.socket, factory, self.reactor, transport, bound.shared)
        try:
            listener.startListening()
        except OSError as error:
            self._give_up(f"cannot listen on {bound.url}: {error.strerror}")
        else:
            # The admin port tells that it drains, unless it is its successor's by now.
            stays = bound.serves == ADMIN and not bound.shared
            (self._until_the_end if stays else self.listeners).append(listener)

    def _give_up(self, reason: str) -> None:
        if not self.reactor.running:
            raise SystemExit(f"cyclone-sse: {reason}")
        self.log.critical("{reason}", reason=reason)
        self.reactor.stop()

    # While it runs.

    def reload(self) -> None:
        """Read anew what may have changed on the disk: certificates and keys.

        Connections go on. Raises ValueError about what is wrong; the old one stays in use then.
        """
        readers: list[Callable[[], None]] = [
            rules_of(self.application).reload,
            self.application.broker.hub.reload_kinds,
        ]
        if self.tls is not None:
            readers.append(self.tls.reload)
        wrong = []
        for read in readers:
            try:
                read()
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong))

    def not_ready(self) -> list[str]:
        """Why it shall get no clients at this moment; nothing where it shall."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        elif not self._is_open:
            reasons.append("starting")
        if not self.application.broker.available:
            reasons.append("broker away")
        return reasons

    def connection_count(self) -> int:
        """How many connections are open on the public ports."""
        return len(self.connections.open)

    # Stop.

    def stopService(self) -> Deferred[None]:
        """End all streams and be gone. Fires when it is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Wait for nothing any more: the second order to stop."""
        self._in_hurry = True
        _fire(self._step)

    async def _stop(self) -> None:
        self.draining = True
        drain: float = self.settings["drain"]
        self._stop_accepting()
        self.connections.ending = True  # the next request of each connection is its last
        self.application.broker.hub.end(Ending.DRAINED, over=drain, farewell=farewell)
        await self._wait(self.connections.gone(), LAST_REQUEST)
        self._shut(streams=not drain)
        await self._wait(self.connections.gone(), drain + STOP_GRACE)
        self._shut(streams=True)
        await self._wait(Deferred.fromCoroutine(self.application.broker.stop()), STOP_GRACE)
        for connection in list(self.connections.open):
            connection.transport.abortConnection()
        for listener in self._until_the_end:
            listener.stopListening()
        if self._sweeper.running:
            self._sweeper.stop()
        # The reactor closes whatever is still open as soon as this is over: not in the midst of reading from
        # the broker's connection, whose end it was, and which may have something to write as well.
        await deferLater(self.reactor, 0)

    def _stop_accepting(self) -> None:
        for bound in self.bound:
            bound.unlink()
        for listener in self.listeners:
            listener.stopListening()

    def _shut(self, streams: bool) -> None:
        """Close what is idle; what is being answered is answered. Streams, too, if they have no end of
        their own any more."""
        for connection in list(self.connections.open):
            if streams or connection.state is not STREAMING:
                connection.shut()

    async def _wait(self, event: Deferred[Any], seconds: float) -> None:
        """Wait for this, but no longer than so long, and not at all in a hurry."""
        over = self._step = Deferred()
        timer = self.reactor.callLater(0 if self._in_hurry else seconds, _fire, over)
        event.addErrback(self._bug).addCallback(lambda _: _fire(over))
        await over
        if timer.active():
            timer.cancel()

    def _bug(self, failure: Any) -> None:
        self.log.failure("the service failed", failure)


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)
