"""The service that twistd runs: listeners, the application, the exporter, start and stop.

Start: everything that can be wrong is found before the first port is open, then the ports
(while still privileged), then the broker, then one line in the log. Stop: no new connections,
the broker gone, the streams ended, at the latest after a moment.
"""

from __future__ import annotations

import gc
import mimetypes
import resource
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, Logger

from cyclone_sse.daemon.clock import count_monotonic_time
from cyclone_sse.daemon.command import Options
from cyclone_sse.daemon.listener import Listener
from cyclone_sse.daemon.log import Log, observer, open_log, take_rotate_signal
from cyclone_sse.daemon.sockets import HTTPS, Bound, open_sockets

__all__ = ["Options", "ServerService", "makeService"]

STOP_GRACE = 2.0  # seconds for the clients to take what is under way when the server stops


class ServerService(Service):
    """Listens, and keeps what all connections share.

    application: the cyclone application, and as such the factory of connections. settings: the
    options. tls: makes the transports of the TLS port, None to do without. reactor: the global one
    if None.
    """

    log = Logger()

    def __init__(self, application: Any, settings: Options, tls: Any, reactor: Any = None) -> None:
        from cyclone_sse.http.connection import Connection
        from cyclone_sse.http.limits import Connections

        if reactor is None:
            from twisted.internet import reactor
        self.application = application
        self.settings = settings
        self.tls = tls
        self.reactor = reactor
        self.connections = Connections(settings, reactor)
        self.bound: list[Bound] = []
        self.listeners: list[Listener] = []
        self._sweeper = LoopingCall(self.connections.expire)
        self._sweeper.clock = reactor
        application.protocol = partial(Connection, self.connections)
        application.noisy = False

    def privilegedStartService(self) -> None:
        """Bind the ports, which may need rights that are given up after it."""
        _raise_file_limit(self.log)
        try:
            self.bound = open_sockets(self.settings, self.application, self.reactor)
        except ValueError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None

    def startService(self) -> None:
        """Begin to serve."""
        super().startService()
        _spare_collector()
        mimetypes.init()  # reads a file; later there may be no descriptor for it
        sweeping = self._sweeper.start(1.0, now=False)
        sweeping.addErrback(lambda failure: self.log.failure("the sweep failed", failure))
        broker = self.application.broker
        broker.start()
        self._listen()
        self.log.info(
            "cyclone-sse serves {addresses} with the {broker} broker",
            addresses=" and ".join(each.url for each in self.bound),
            broker=broker.name,
        )

    def _listen(self) -> None:
        for each in self.bound:
            transport = self.tls if each.serves == HTTPS else None
            factory = each.factory or self.application
            listener = Listener(each.socket, factory, self.reactor, transport, each.shared)
            try:
                listener.startListening()
            except OSError as error:
                raise SystemExit(f"cyclone-sse: cannot listen on {each.url}: {error.strerror}") from None
            self.listeners.append(listener)

    def reload(self) -> None:
        """Read anew what may have changed on the disk: certificates and keys.

        Connections go on. Raises ValueError about what is wrong; the old one stays in use then.
        """
        readers: list[Callable[[], None]] = list(getattr(self.application, "reloads", ()))
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

    def stopService(self) -> Deferred[None]:
        """End all streams and be gone."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._sweeper.running:
            self._sweeper.stop()
        for each in self.bound:
            each.unlink()
        for listener in self.listeners:
            listener.stopListening()
        await self.application.broker.stop()
        for connection in list(self.connections.open):
            connection.shut()
        waited = 0.0
        while self.connections.open and waited < STOP_GRACE:
            await deferLater(self.reactor, 0.05)
            waited += 0.05
        for connection in list(self.connections.open):
            connection.transport.abortConnection()


class Daemon(MultiService):
    """What twistd holds: all services, and the signals that it does not take itself.

    server: has `reload`. log_file: the log that is ours, None where it is somebody else's.
    """

    log = Logger()

    def __init__(self, server: Any, log_file: Log | None, reactor: Any) -> None:
        super().__init__()
        self._server = server
        self._log_file = log_file
        self._reactor = reactor
        server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Be given to twistd's application, which also says where the log goes."""
        if self._log_file is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, observer(self._log_file))
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start all services; from now on signals may come."""
        later = self._reactor.callFromThread
        take_rotate_signal(self._log_file, later)
        signal.signal(signal.SIGHUP, lambda *_: later(self.reload))
        super().startService()

    def reload(self) -> None:
        """SIGHUP: go on in a new log file, and read certificates and keys anew."""
        try:
            if self._log_file is not None:
                self._log_file.reopen()
            self._server.reload()
        except (OSError, ValueError) as error:
            self.log.error("could not read all anew: {reason}", reason=error)
        else:
            self.log.info("read certificates and keys anew, and opened the log")


def makeService(options: Options) -> Daemon:
    """What twistd calls with the parsed options. Exits with one line where they cannot be met."""
    from twisted.internet import reactor

    count_monotonic_time(reactor)
    try:
        application, tls = _prepare(options)
        log_file = open_log(options.parent) if options.parent else None
    except (ValueError, ImportError) as error:
        raise SystemExit(f"cyclone-sse: {error}") from None
    service = Daemon(ServerService(application, options, tls), log_file, reactor)
    if options["export"]:
        from cyclone_sse.periodic import GraphiteExport

        GraphiteExport(application.broker, options).setServiceParent(service)
    return service


def _prepare(options: Options) -> tuple[Any, Any]:
    """The application and the maker of TLS transports. Raises ValueError or ImportError."""
    try:
        from cyclone_sse.daemon.tls import TlsTransports
        from cyclone_sse.server import App, load_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is missing; install it with: pip install --no-deps -r requirements.txt"
        ) from None
    tls = TlsTransports(options["ssl-cert"], options["ssl-key"]) if options["use-ssl"] else None
    if not options["app"]:
        return App(options), tls
    application = load_app(options["app"])(options)
    if not hasattr(application, "broker"):
        raise ValueError(f"--app={options['app']}: the application has no attribute broker")
    return application, tls


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
