"""Several processes that serve on the same ports: started, watched, and replaced one by one.

This process serves nothing. It has the sockets: for each worker one of each port, so that the
kernel spreads connections evenly over them (SO_REUSEPORT), and so that what comes while a worker
is replaced or dead waits for the next one. Twisted's process monitor starts them, logs what they
say, and starts again what dies.

SIGHUP replaces them one after the other: a new one serves before the old one is sent home, which
then drains. When this process goes, all of them go.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.runner.procmon import ProcessMonitor
from zope.interface import implementer

from cyclone_sse.daemon.handover import FIRST_SOCKET, LIFELINE, READY, Handover
from cyclone_sse.daemon.sockets import Bound, Owner, duplicate, open_sockets

KILL_AFTER = 15.0  # seconds that a worker may take for its end besides --drain
RESTART_AFTER = (1, 30)  # seconds: at least, and at most when it dies again and again


@dataclass
class Slot:
    """One worker's place: its sockets, and who has it. number: from 1 on."""

    number: int
    bound: Sequence[Bound]
    generation: int = 0
    name: str = ""

    def next(self) -> str:
        """The name of the next who has it."""
        self.generation += 1
        return f"worker {self.number}" + (f".{self.generation}" if self.generation > 1 else "")


@dataclass
class Running(ProcessProtocol):
    """One process. logs: the monitor's own protocol. Both Deferreds fire at the latest at its end."""

    name: str
    logs: ProcessProtocol
    serves: Deferred[bool] = field(default_factory=Deferred)  # False: it ended before
    ended: Deferred[None] = field(default_factory=Deferred)
    log = Logger()

    def connectionMade(self) -> None:
        """It was started."""
        self.logs.makeConnection(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It says that it serves, or has something for the log."""
        if childFD == READY:
            if not self.serves.called:
                self.serves.callback(True)
        else:
            self.logs.childDataReceived(childFD, data)

    def processEnded(self, reason: Failure) -> None:
        """It is no more."""
        if not self.serves.called:
            self.serves.callback(False)
        # Not Twisted's own words: to them an end by the SIGTERM that we sent is a probable error.
        ending: Any = reason.value
        how = f"by signal {ending.signal}" if ending.signal else f"with exit code {ending.exitCode}"
        self.log.info("{name} has ended {how}", name=self.name, how=how)
        self.logs.processEnded(reason)
        self.ended.callback(None)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]


@implementer(IReactorTime, IReactorProcess)
class _Spawner:
    """The reactor, as the monitor sees it: each process gets its descriptors besides."""

    def __init__(self, reactor: Any, spawn: Callable[..., Any]) -> None:
        self._reactor = reactor
        self.spawnProcess = spawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class SupervisorService(Service):
    """Keeps `--workers` processes.

    settings: the options. words: the command line that gave them. check: raises ValueError when a
    new worker could not start for what is on the disk.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        words: Sequence[str],
        check: Callable[[], object],
        reactor: Any,
        owner: Owner | None = None,
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._check = check
        self._reactor = reactor
        # Found before twistd changes its directory: a script, or the one file that holds everything.
        self._command = [sys.executable, os.path.abspath(sys.argv[0])]
        self._words = ["-n", "--pidfile=", "cyclone-sse", *words]
        self._slots: list[Slot] = []
        self._running: dict[str, Running] = {}
        self._sockets: dict[str, Sequence[Bound]] = {}  # of each process by its name
        self._replacing = self._again = False
        self._monitor = ProcessMonitor(_Spawner(reactor, self._spawn))
        self._monitor.killTime = settings["drain"] + KILL_AFTER
        self._monitor.minRestartDelay, self._monitor.maxRestartDelay = RESTART_AFTER

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the ports, as many times as there are workers. Exits with one line where that fails."""
        try:
            first = open_sockets(self._settings, None, self._reactor, share=True, owner=self._owner)
            for number in range(self._settings["workers"]):
                bound = first if not number else [duplicate(each, number) for each in first]
                self._slots.append(Slot(number + 1, bound))
        except ValueError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None

    def startService(self) -> None:
        """Start all workers."""
        super().startService()
        self._monitor.startService()
        for slot in self._slots:
            slot.name = self._begin(slot)
        everybody = DeferredList([self._running[slot.name].serves for slot in self._slots])
        everybody.addCallback(self._say_that_all_serve)

    def _say_that_all_serve(self, _: object) -> None:
        addresses = dict.fromkeys(each.url for each in self._slots[0].bound)
        self.log.info(
            "{n} workers of cyclone-sse serve {addresses}",
            n=len(self._slots),
            addresses=" and ".join(addresses),
        )

    def _begin(self, slot: Slot) -> str:
        name = slot.next()
        self._sockets[name] = slot.bound
        given = Handover(slot.number, [each.serves for each in slot.bound])
        variables = {**os.environ, **given.environment()}
        self._monitor.addProcess(name, [*self._command, *self._words], env=variables, cwd=os.getcwd())
        return name

    def _spawn(self, logs: Any, executable: str, args: Sequence[str], **how: Any) -> Any:
        name = logs.name
        self._running[name] = running = Running(name, logs)
        sockets = {
            number: each.socket.fileno() for number, each in enumerate(self._sockets[name], FIRST_SOCKET)
        }
        descriptors = {LIFELINE: "w", 1: "r", 2: "r", READY: "r", **sockets}
        return self._reactor.spawnProcess(running, executable, args, childFDs=descriptors, **how)

    # While they run.

    def reload(self) -> None:
        """Replace all workers, one after the other. Raises ValueError if no new one could start."""
        self._check()
        if self._replacing:
            self._again = True
        else:
            Deferred.fromCoroutine(self._replace_all()).addErrback(
                lambda failure: self.log.failure("the workers could not be replaced", failure)
            )

    async def _replace_all(self) -> None:
        self._replacing = True
        try:
            for slot in self._slots:
                if not self.running or not await self._replace(slot):
                    return
            self.log.info("all workers are new")
        finally:
            self._replacing = False
        if self._again:
            self._again = False
            self.reload()

    async def _replace(self, slot: Slot) -> bool:
        old, new = slot.name, self._begin(slot)
        if not await self._running[new].serves:
            if self.running:
                self.log.error("{new} did not start: {old} and those after it stay", new=new, old=old)
                self._monitor.removeProcess(new)
            return False
        slot.name = new
        self._monitor.removeProcess(old)
        await self._running[old].ended
        del self._running[old], self._sockets[old]
        return True

    # Stop.

    def stopService(self) -> Deferred[Any]:
        """End all workers, each of which drains. Fires when they have ended."""
        super().stopService()
        self._monitor.stopService()
        for slot in self._slots:
            for each in slot.bound:
                each.unlink()
                each.socket.close()
        return DeferredList([running.ended for running in self._running.values()])

    def hurry(self) -> None:
        """End them at once: the second order to stop."""
        for running in self._running.values():
            running.kill()
