"""The service that twistd runs: listeners, the application, the exporter, start and stop.

Start: everything that can be wrong is found before the first port is open, then the ports
(while still privileged), then the broker, then one line in the log. Stop: no new connections,
the broker gone, the streams ended, at the latest after a moment.
"""

from __future__ import annotations

import gc
import resource
from functools import partial
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from cyclone_sse.daemon.clock import count_monotonic_time
from cyclone_sse.daemon.command import Options

__all__ = ["Options", "ServerService", "makeService"]

BACKLOG = 4096  # connections the kernel may keep waiting: a site's clients all come back at once
STOP_GRACE = 2.0  # seconds for the clients to take what is under way when the server stops


class ServerService(Service):
    """Listens, and keeps what all connections share.

    application: the cyclone application, and as such the factory of connections. settings: the
    options. context: for TLS, None to do without. reactor: the global one if None.
    """

    log = Logger()

    def __init__(self, application: Any, settings: Options, context: Any, reactor: Any = None) -> None:
        from cyclone_sse.http.connection import Connection, Limits

        if reactor is None:
            from twisted.internet import reactor
        self.application = application
        self.settings = settings
        self.context = context
        self.reactor = reactor
        self.limits = Limits(reactor, settings["max-body"], settings["trust-proxy"])
        self.ports: list[Any] = []
        self._sweeper = LoopingCall(self.limits.sweep)
        self._sweeper.clock = reactor
        application.protocol = partial(Connection, self.limits)
        application.noisy = False

    def privilegedStartService(self) -> None:
        """Open the ports, which may need rights that are given up after it."""
        _raise_file_limit(self.log)
        settings = self.settings
        self._listen(settings["port"], settings["listen"], self.application)
        if self.context is not None:
            factory = TLSMemoryBIOFactory(self.context, False, self.application, self.reactor)
            factory.noisy = False
            self._listen(settings["ssl-port"], settings["ssl-listen"], factory)

    def _listen(self, port: int, interface: str, factory: Any) -> None:
        try:
            self.ports.append(self.reactor.listenTCP(port, factory, backlog=BACKLOG, interface=interface))
        except CannotListenError as error:
            reason = error.socketError
            raise SystemExit(f"cyclone-sse: cannot listen on {interface}:{port}: {reason}") from None

    def startService(self) -> None:
        """Begin to serve."""
        super().startService()
        _spare_collector()
        sweeping = self._sweeper.start(1.0, now=False)
        sweeping.addErrback(lambda failure: self.log.failure("the sweep failed", failure))
        broker = self.application.broker
        broker.start()
        self.log.info(
            "cyclone-sse serves {addresses} with the {broker} broker",
            addresses=" and ".join(self.addresses()),
            broker=broker.name,
        )

    def addresses(self) -> list[str]:
        """Where it can be reached."""
        urls = []
        for scheme, port in zip(("http", "https"), self.ports, strict=False):
            address = port.getHost()
            host = f"[{address.host}]" if ":" in address.host else address.host
            urls.append(f"{scheme}://{host}:{address.port}/")
        return urls

    def stopService(self) -> Deferred[None]:
        """End all streams and be gone."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._sweeper.running:
            self._sweeper.stop()
        await DeferredList([maybeDeferred(port.stopListening) for port in self.ports])
        await self.application.broker.stop()
        for connection in list(self.limits.open):
            connection.shut()
        waited = 0.0
        while self.limits.open and waited < STOP_GRACE:
            await deferLater(self.reactor, 0.05)
            waited += 0.05
        for connection in list(self.limits.open):
            connection.transport.abortConnection()


def makeService(options: Options) -> MultiService:
    """What twistd calls with the parsed options. Exits with one line where they cannot be met."""
    from twisted.internet import reactor

    count_monotonic_time(reactor)
    try:
        application, context = _prepare(options)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"cyclone-sse: {error}") from None
    service = MultiService()
    ServerService(application, options, context).setServiceParent(service)
    if options["export"]:
        from cyclone_sse.periodic import GraphiteExport

        GraphiteExport(application.broker, options).setServiceParent(service)
    return service


def _prepare(options: Options) -> tuple[Any, Any]:
    """The application and the TLS context. Raises ValueError or ImportError."""
    try:
        from cyclone_sse.daemon.tls import tls_context
        from cyclone_sse.server import App, load_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is missing; install it with: pip install --no-deps -r requirements.txt"
        ) from None
    context = tls_context(options["ssl-cert"], options["ssl-key"]) if options["use-ssl"] else None
    if not options["app"]:
        return App(options), context
    application = load_app(options["app"])(options)
    if not hasattr(application, "broker"):
        raise ValueError(f"--app={options['app']}: the application has no attribute broker")
    return application, context


def _raise_file_limit(log: Logger) -> None:
    """Each client is a file descriptor: take as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.info("up to {n} open files", n="unlimited" if hard == resource.RLIM_INFINITY else hard)


def _spare_collector() -> None:
    """Keep the garbage collector from looking at every subscriber again and again.

    With ten thousand of them a full collection stops everything for a tenth of a second, and
    they are freed by their reference counts alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
