"""The functions that twistd calls: from the parsed options to the services that it starts.

Mistakes in options and files are found here, before anything is opened. The only module with imports inside
of functions, so that a missing library is reported in one line.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from cyclone_sse.daemon.command_line import Options
from cyclone_sse.daemon.handover import READY, Reports, pop_handover
from cyclone_sse.daemon.log_file import accept_any_text, open_log, owner_of
from cyclone_sse.daemon.name_resolver import install_name_resolver
from cyclone_sse.daemon.process import Daemon, WorkerDaemon
from cyclone_sse.daemon.sockets import open_sockets
from cyclone_sse.daemon.start_signals import delay_signals
from cyclone_sse.daemon.supervisor import SupervisorService
from cyclone_sse.daemon.systemd import SystemdNotifier

if TYPE_CHECKING:
    from cyclone_sse.daemon.service import ServerService
    from cyclone_sse.daemon.tls import TlsTransports

log = Logger()

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> Daemon:
    """Return the service that twistd starts. Exits with one line if an option cannot be used."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    install_name_resolver(reactor)
    accept_any_text(sys.stdout)
    if options["check"]:
        from cyclone_sse.daemon.check import check

        check(options, build, reactor)
    # Without flags, as by `twistd -y`, twistd has the log file, and handles SIGUSR1 if it has no handler yet.
    delay_signals((signal.SIGHUP, signal.SIGUSR1) if options.parent else (signal.SIGHUP,))
    try:
        handover = pop_handover(os.environ)
        if handover is not None:
            if changed := handover.apply(options):
                names = ", ".join(f"--{name}" for name in changed)
                log.warn("another value counts only after a restart of the server: {names}", names=names)
            # Each worker has figures of its own: with one name for all the last datagram would count.
            options["export-path"] += f".worker-{handover.number}"
            reports = Reports(reactor)
            server = _server(options, sockets=handover.sockets, on_open=partial(reports.send, READY))
            return _with_export(WorkerDaemon(server, reports, reactor), server, options)
        notifier = SystemdNotifier(os.environ, reactor)
        if options["workers"] > 1:
            build(options)
            supervisor = SupervisorService(
                options,
                options.words,
                partial(build, options),
                reactor,
                flags=_flags(options),
                owner=_owner(options),
                on_open=notifier.send_ready,
            )
            return Daemon(supervisor, _log_file(options), notifier, reactor)
        server = _server(options, on_open=notifier.send_ready)
        return _with_export(Daemon(server, _log_file(options), notifier, reactor), server, options)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"cyclone-sse: {error}") from None


def build(options: Mapping[str, Any]) -> tuple[Any, TlsTransports | None]:
    """Make the application and the transports of TLS. Raises ValueError or ImportError."""
    try:
        from cyclone_sse.access.rules import has_rules, make_rules
        from cyclone_sse.daemon.tls import TlsTransports
        from cyclone_sse.server import App, load_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is missing; install it with: pip install . (in a checkout: make run), or run it "
            "outside the checkout, whose cyclone_sse hides the installed one"
        ) from None
    tls = TlsTransports(options["ssl-cert"], options["ssl-key"]) if options["use-ssl"] else None
    if not options["app"]:
        return App(options), tls
    application = load_app(options["app"])(options)
    if not hasattr(application, "broker"):
        raise ValueError(f"--app={options['app']}: the application has no attribute broker")
    if not has_rules(application):
        application.rules = make_rules(application.broker)
    return application, tls


def _server(
    options: Options, sockets: Callable[[], Any] | None = None, on_open: Callable[[], None] | None = None
) -> ServerService:
    from twisted.internet import reactor

    application, tls = build(options)
    from cyclone_sse.daemon.service import ServerService

    sockets = sockets or partial(open_sockets, options, application, reactor, owner=_owner(options))
    return ServerService(application, options, tls, sockets=sockets, on_open=on_open)


def _flags(options: Options) -> list[str]:
    """The flags of twistd that also concern workers."""
    given = options.parent or {}
    flags = [f"--reactor={given['reactor']}"] if given.get("reactor") else []
    if given.get("umask") is not None:
        flags.append(f"--umask={given['umask']:o}")
    if given.get("rundir", ".") != ".":
        flags.append(f"--rundir={os.path.abspath(given['rundir'])}")
    return flags


def _owner(options: Options) -> tuple[int, int] | None:
    return owner_of(options.parent) if options.parent else None


def _log_file(options: Options) -> Any:
    return open_log(options.parent) if options.parent else None


def _with_export(daemon: Daemon, server: ServerService, options: Options) -> Daemon:
    if options["export"]:
        from cyclone_sse.periodic import GraphiteExport

        GraphiteExport(server.application.broker, options).setServiceParent(daemon)
    return daemon


def use_monotonic_clock(reactor: Any) -> None:
    """Make the reactor measure its delays by a clock that cannot be set.

    Twisted uses the wall clock. If that is set back by an hour, pings, deadlines and retries stop for an
    hour; if it is set forward, all of them are due at once. Twisted and this package measure intervals with
    ``reactor.seconds``; ids and dates use the wall clock.

    Call before anything is scheduled: a call scheduled by the other clock would never be due. Raises
    RuntimeError in that case.
    """
    if reactor.seconds is time.monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("a call is already scheduled by the wall clock")
    reactor.seconds = time.monotonic
