"""The process: its limits, its signals and its log file, around the services that twistd starts.

SIGHUP opens the log file again, and reads files again: certificates, keys, secrets and kinds of channel.
SIGUSR1 rotates the log; a second SIGTERM ends the process at once. Only SIGTERM and SIGINT end the process.
A signal that was ignored when the process started (because of ``nohup``, or the ``&`` of a script) stays
ignored, as POSIX requires. A signal that comes during the start waits until the reactor runs.
"""

from __future__ import annotations

import gc
import mimetypes
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.logger import ILogObserver, Logger

from cyclone_sse.daemon.handover import STOPPING, Lifeline, Reports, pipe_observer
from cyclone_sse.daemon.log_file import Log, file_observer, handle_rotate_signal
from cyclone_sse.daemon.start_signals import delay_signal, delay_signals, handle_signal, raise_delayed_signals
from cyclone_sse.daemon.systemd import SystemdNotifier
from cyclone_sse.errors import call_each
from cyclone_sse.reactor_turns import shorten_turns

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MACOS_LIMIT = 10240  # open files; macOS refuses to set more, also if its hard limit is unlimited


class Reloadable(Protocol):
    """A service that handles signals."""

    def reload(self) -> None:
        """Read the files again. Raises ValueError with their mistakes."""

    def hurry(self) -> None:
        """Stop at once, after a second order to stop."""

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of another service."""


class Daemon(MultiService):
    """The service that twistd starts: all services, and the signals that twistd does not handle.

    server: handles the signals. log_file: our log file, None if the log is written elsewhere. notifier:
    reports to systemd.
    """

    log = Logger()

    def __init__(
        self, server: Reloadable, log_file: Log | None, notifier: SystemdNotifier, reactor: Any
    ) -> None:
        super().__init__()
        self._notifier = notifier
        self._observer = None if log_file is None else file_observer(log_file)
        self._server = server
        self._log_file = log_file
        self._reactor = reactor
        self._is_stopping = False
        self._ignored: set[int] = set()
        server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of twistd's application, and provide its log observer."""
        if self._observer is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Take the steps that need the rights of root."""
        delay_signals(STOP_SIGNALS)  # not before: a custom application may hang while it is made
        _raise_file_limit(self.log)
        super().privilegedStartService()

    def startService(self) -> None:
        """Start all services, and handle signals from now on."""
        _tune_garbage_collection()
        shorten_turns(self._reactor)
        mimetypes.init()  # It reads a file; later there may be no free descriptor for it.
        later = self._reactor.callFromThread
        handle_rotate_signal(self._log_file, later)
        handle_signal(signal.SIGHUP, lambda *_: later(self.reload))
        # Twisted installs its own handlers when the reactor runs, also for signals that are ignored.
        self._ignored = {number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
        self._reactor.callWhenRunning(self._handle_stop_signals)
        self._notifier.start()
        super().startService()

    def stopService(self) -> Any:
        """Stop all services."""
        self._notifier.send_stopping()
        return super().stopService()

    def _handle_stop_signals(self) -> None:
        """Replace Twisted's handlers, which log an error at a second signal, and obey the delayed signals."""
        for number, usual in zip(STOP_SIGNALS, (self._reactor.sigTerm, self._reactor.sigInt), strict=True):
            first = signal.getsignal(number)
            if number in self._ignored:
                signal.signal(number, signal.SIG_IGN)
            elif callable(first):
                # Twisted replaces no handler of SIGINT but Python's own.
                first = usual if first is delay_signal else first
                signal.signal(number, partial(self._stop_signal, first))
        raise_delayed_signals()

    def _stop_signal(self, first: Callable[..., object], number: int, frame: Any) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            first(number, frame)
            self._reactor.callFromThread(self.first_stop)
        else:
            self._reactor.callFromThread(self.second_stop)

    def first_stop(self) -> None:
        """Handle the first signal to stop, which Twisted handles too."""

    def second_stop(self) -> None:
        """Handle a second signal to stop: end at once."""
        self._server.hurry()

    def reload(self) -> None:
        """Handle SIGHUP: open the log file again, and read files again.

        If one of these fails, the others are done nevertheless.
        """
        self._notifier.send_reloading()
        reopen = [] if self._log_file is None else [self._log_file.reopen]
        try:
            call_each([*reopen, self._server.reload])
        except ValueError as error:
            self.log.error("could not read everything again: {reason}", reason=str(error))
        else:
            self.log.info("read certificates, keys, secrets and kinds of channel again, and opened the log")
        self._notifier.send_ready()


class WorkerDaemon(Daemon):
    """The same service in a worker, which writes its log through the parent and receives orders from the
    parent.

    A terminal or a unit may send its signals to all processes: a worker stops at the first signal, and skips
    the waiting only if the parent has ended.
    """

    def __init__(self, server: Reloadable, reports: Reports, reactor: Any) -> None:
        super().__init__(server, None, SystemdNotifier({}, reactor), reactor)
        self._reports = reports
        self._observer = pipe_observer()

    def startService(self) -> None:
        """Start all services, and end when the parent ends."""
        # A terminal sends SIGINT to all processes; the parent passes it on as SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().startService()
        self._reports.start()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Lifeline(self._on_orphaned, self._reactor).startReading()

    def first_stop(self) -> None:
        """Report to the parent, which may not have sent the signal."""
        self._reports.send(STOPPING)

    def second_stop(self) -> None:
        """Do nothing: the parent kills its workers when they must end at once."""

    def _on_orphaned(self) -> None:
        self._server.hurry()
        if self.running:
            self.log.error("the process that watches the workers has exited")
            self._reactor.stop()


def _raise_file_limit(log: Logger) -> None:
    """Raise the limit of open files to the hard limit: each client needs a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in dict.fromkeys((hard, _MACOS_LIMIT)):
        if soft == wanted:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    log.info("up to {n} open files", n="unlimited" if soft == resource.RLIM_INFINITY else soft)


def _tune_garbage_collection() -> None:
    """Collect rarely: a full collection over 10,000 clients stops the server for 0.1 s.

    Clients are freed by their reference counts alone. What one collection of the middle generation looks at
    is bounded: 50,000 objects are 6 ms. A larger bound would look at each object as often, but stop the
    server for longer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 4, 500)
