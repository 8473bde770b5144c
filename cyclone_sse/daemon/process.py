"""The process: its limits, its signals and its log file, around the services that twistd starts.

SIGHUP goes on in a new log file and reads certificates and keys anew; SIGUSR1 rotates the log; a
second SIGTERM ends at once. None of them but SIGTERM and SIGINT ends the process.
"""

from __future__ import annotations

import gc
import mimetypes
import resource
import signal
from functools import partial
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.logger import ILogObserver, Logger

from cyclone_sse.daemon import handover
from cyclone_sse.daemon.log_file import Log, observer, take_rotate_signal


class Reloadable(Protocol):
    """A service that signals concern."""

    def reload(self) -> None:
        """Read anew what may have changed. Raises ValueError about what is wrong."""

    def hurry(self) -> None:
        """Stop at once: the second order to stop."""

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of another service."""


class Daemon(MultiService):
    """What twistd holds: all services, and the signals that it does not take itself.

    server: what the signals concern. log_file: the log that is ours, None where it is somebody else's.
    """

    log = Logger()

    def __init__(self, server: Reloadable, log_file: Log | None, reactor: Any) -> None:
        super().__init__()
        self._observer = None if log_file is None else observer(log_file)
        self._server = server
        self._log_file = log_file
        self._reactor = reactor
        self._told_to_stop = False
        server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Be given to twistd's application, which also says where the log goes."""
        if self._observer is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Take what takes rights."""
        _raise_file_limit(self.log)
        super().privilegedStartService()

    def startService(self) -> None:
        """Start all services; from now on signals may come."""
        _spare_collector()
        mimetypes.init()  # reads a file; later there may be no descriptor for it
        later = self._reactor.callFromThread
        take_rotate_signal(self._log_file, later)
        signal.signal(signal.SIGHUP, lambda *_: later(self.reload))
        self._reactor.callWhenRunning(self._take_stop_signals)
        super().startService()

    def _take_stop_signals(self) -> None:
        """Put ourselves before Twisted's handlers, which take a second signal for a mistake."""
        for number in (signal.SIGTERM, signal.SIGINT):
            first = signal.getsignal(number)
            signal.signal(number, partial(self._stop_signal, first))

    def _stop_signal(self, first: Any, number: int, frame: Any) -> None:
        if not self._told_to_stop:
            self._told_to_stop = True
            first(number, frame)
        else:
            self._reactor.callFromThread(self.told_again)

    def told_again(self) -> None:
        """A second order to stop: at once."""
        self._server.hurry()

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


class WorkerDaemon(Daemon):
    """The same in a worker: its log lines and its orders go through the parent.

    Signals that go to all processes of a terminal or a unit reach it besides: it stops once, and in
    a hurry only when the parent has gone.
    """

    def __init__(self, server: Reloadable, reactor: Any) -> None:
        super().__init__(server, None, reactor)
        self._observer = handover.observer()

    def startService(self) -> None:
        """Start all services, and go when the parent goes."""
        super().startService()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        handover.Lifeline(self._orphaned, self._reactor).startReading()

    def told_again(self) -> None:
        """Nothing: the parent ends its workers at once by other means."""

    def _orphaned(self) -> None:
        self._server.hurry()
        if self.running:
            self.log.error("the process that watches the workers has gone")
            self._reactor.stop()


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
