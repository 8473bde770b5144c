"""One worker, as its parent sees it: its log lines, its reports, and its end.

A worker reports by single bytes that it serves, that it is alive, and that it stops. One that is
silent for too long hangs, and is killed: the kernel continues to give it a share of the connections,
which no other process would answer.

Knows one process; nothing of its sockets or of the other workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.daemon.handover import READY, REPORTS, STOPPING

SILENCE_LIMIT = 10.0  # seconds without a report; a healthy worker sends one every two seconds
START_LIMIT = 60.0  # seconds until the first report: a busy machine may start a large program slowly
MAX_LINE = 8192  # bytes of a log line; the rest is dropped

_STDOUT, _STDERR = 1, 2


class LogLines:
    """Splits what a process writes into lines.

    Twisted's LineReceiver drops the connection at a line of 16 KiB; the worker could log nothing more.
    """

    def __init__(self) -> None:
        self._part = bytearray()
        self._is_cut = False  # the rest of the present line is dropped

    def feed(self, data: bytes) -> Iterator[str]:
        """Return the lines that these bytes complete."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            yield self._pop()
        self._add(rest)

    def end(self) -> Iterator[str]:
        """Return the last line if it has no line end."""
        if self._part:
            yield self._pop()

    def _add(self, data: bytes) -> None:
        room = MAX_LINE - len(self._part)
        self._is_cut = self._is_cut or len(data) > room
        self._part += data[:room]

    def _pop(self) -> str:
        text = self._part.decode(errors="backslashreplace") + (" [cut]" if self._is_cut else "")
        self._part.clear()
        self._is_cut = False
        return text


class WorkerProcess(ProcessProtocol):
    """One process.

    name: for the log. on_stopping: called when it reports that it stops. reactor: the clock.

    ready: fires with True when it serves, with False if it ends before. ended: fires at its end. is_stopping:
    it says that it stops. is_hung: it was killed because it was silent.
    """

    log = Logger()

    def __init__(self, name: str, on_stopping: Callable[[], object], reactor: IReactorTime) -> None:
        self.name = name
        self.ready: Deferred[bool] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.started = reactor.seconds()
        self.told_to_stop = False
        self.is_stopping = False
        self.is_hung = False
        self._on_stopping = on_stopping
        self._reactor = reactor
        self._lines = {_STDOUT: LogLines(), _STDERR: LogLines()}
        self._last_report: float | None = None
        self._killer: IDelayedCall | None = None  # the delayed call that kills it

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.called

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Read a report, or lines for the log."""
        if childFD == REPORTS:
            self._last_report = self._reactor.seconds()
            if READY in data and not self.ready.called:
                self.ready.callback(True)
            if STOPPING in data:
                self.is_stopping = True
                if not self.told_to_stop:
                    self._on_stopping()
        else:
            self._write(self._lines[childFD].feed(data))

    def _write(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.log.info("[{name}] {line}", name=self.name, line=line)

    def processEnded(self, reason: Failure) -> None:
        """Log how it ended."""
        for lines in self._lines.values():
            self._write(lines.end())
        # Twisted's text for an end by our SIGTERM speaks of a probable error.
        ending: Any = reason.value
        how = f"by signal {ending.signal}" if ending.signal else f"with exit code {ending.exitCode}"
        self.log.info("{name} has ended {how}", name=self.name, how=how)
        self._note_end()

    def note_failed_start(self, reason: str) -> None:
        """Log that the process could not be made at all."""
        self.log.error("{name} could not be started: {reason}", name=self.name, reason=reason)
        self._note_end()

    def _note_end(self) -> None:
        if self._killer is not None and self._killer.active():
            self._killer.cancel()
        if not self.ready.called:
            self.ready.callback(False)
        self.ended.callback(None)

    def stop(self, kill_after: float) -> None:
        """Send SIGTERM, and SIGKILL after so many seconds."""
        self.told_to_stop = True
        self._signal("TERM")
        if self.is_running and self._killer is None:
            self._killer = self._reactor.callLater(kill_after, self.kill)

    def kill(self) -> None:
        """End it at once."""
        self._signal("KILL")

    def kill_if_hung(self) -> None:
        """End it at once if it has been silent for too long."""
        since, limit = self.started, START_LIMIT
        if self._last_report is not None:
            since, limit = self._last_report, SILENCE_LIMIT
        if self.is_running and self._reactor.seconds() - since > limit:
            self.log.error(
                "{name} hangs: no report for {limit:g} s; it is killed", name=self.name, limit=limit
            )
            self._last_report = self._reactor.seconds()  # logged once
            self.is_hung = True
            self.kill()

    def restart_silence(self) -> None:
        """Count the silence from now on, since the supervisor itself has not read for a while."""
        if self._last_report is not None:
            self._last_report = self._reactor.seconds()

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            if self.transport is not None:
                self.transport.signalProcess(name)
