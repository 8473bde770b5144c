"""A reactor that does not run: the tests say when something is read or written."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cyclone_sse.daemon.handover import REPORTS


class FakeReactor(Clock):
    """A clock that knows who wants to read and to write."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)


class FakeProcess:
    """A process transport: what it was sent, and how its program ends. protocol: what notices it."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.signals: list[str] = []
        self.hangs = False

    def signalProcess(self, name: str) -> None:
        if not self.protocol.is_running:
            raise ProcessExitedAlready
        self.signals.append(name)

    def report(self, report: bytes) -> None:
        """The program reports something to its parent."""
        self.protocol.childDataReceived(REPORTS, report)

    def end(self) -> None:
        """The program ends."""
        self.protocol.processEnded(Failure(ProcessTerminated(0)))
