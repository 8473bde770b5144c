"""What twistd calls: from the parsed options to the services that it starts.

Whatever can be wrong with options and files is found here, before anything is opened.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from cyclone_sse.daemon.check import check
from cyclone_sse.daemon.clock import count_monotonic_time
from cyclone_sse.daemon.command_line import Options
from cyclone_sse.daemon.handover import Handover, handover, say_ready
from cyclone_sse.daemon.log_file import open_log
from cyclone_sse.daemon.prepare import prepare
from cyclone_sse.daemon.process import Daemon, WorkerDaemon
from cyclone_sse.daemon.sockets import open_sockets

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> Daemon:
    """What twistd calls with the parsed options. Exits with one line where they cannot be met."""
    from twisted.internet import reactor

    count_monotonic_time(reactor)
    if options["check"]:
        check(options, reactor)
    try:
        application, tls = prepare(options)
        given = handover(os.environ)
        if given is not None:
            return _worker(given, application, options, tls)
        log_file = open_log(options.parent) if options.parent else None
    except (ValueError, ImportError) as error:
        raise SystemExit(f"cyclone-sse: {error}") from None
    if options["workers"] > 1:
        from cyclone_sse.daemon.supervisor import SupervisorService

        workers = SupervisorService(options, options.words, partial(prepare, options), reactor)
        return Daemon(workers, log_file, reactor)
    from cyclone_sse.daemon.service import ServerService

    sockets = partial(open_sockets, options, application, reactor)
    service = Daemon(ServerService(application, options, tls, sockets=sockets), log_file, reactor)
    _export(application, options, service)
    return service


def _worker(given: Handover, application: Any, options: Options, tls: Any) -> Daemon:
    from twisted.internet import reactor

    from cyclone_sse.daemon.service import ServerService

    server = ServerService(application, options, tls, sockets=given.sockets, serves=say_ready)
    service = WorkerDaemon(server, reactor)
    # Each has figures of its own: under one name the last to come would count.
    options["export-path"] += f".worker-{given.number}"
    _export(application, options, service)
    return service


def _export(application: Any, options: Options, service: Daemon) -> None:
    if options["export"]:
        from cyclone_sse.periodic import GraphiteExport

        GraphiteExport(application.broker, options).setServiceParent(service)
