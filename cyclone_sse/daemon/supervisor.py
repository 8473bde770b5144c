"""Worker processes that serve on the same ports: started, watched, and replaced one by one.

The supervisor itself serves nothing. It owns the sockets, one of each port for each worker, so that the
kernel distributes connections evenly (SO_REUSEPORT), and so that connections that arrive while a worker is
replaced or has crashed wait for the next one. The supervisor restarts a worker that crashes, with growing
pauses if it crashes repeatedly, and kills a worker that hangs.

SIGHUP replaces the workers one after another: the new one serves before the old one is stopped, which then
drains. When the supervisor ends, the workers end too.

Twisted's ProcessMonitor is not enough: it does not notice a process that hangs, raises KeyError for a process
that is replaced while it waits for its restart, and logs nothing more after a line of 16 KiB.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from cyclone_sse.daemon.handover import FIRST_SOCKET, LIFELINE, REPORTS, SOCKET_OPTIONS, Handover
from cyclone_sse.daemon.sockets import Bound, Owner, duplicate, open_sockets, refuse_same_ports
from cyclone_sse.daemon.worker_process import WorkerProcess
from cyclone_sse.errors import StartError

KILL_AFTER = 15.0  # seconds for the end of a worker, in addition to --drain and --drain-delay
RESTART_DELAYS = (1.0, 30.0)  # seconds: the first, and the longest; each is twice the one before
STABLE_AFTER = 60.0  # seconds after which the end of a worker does not count as a repeated crash
CHECK_INTERVAL = 0.5  # seconds between two looks for workers that hang
_STOP_TOGETHER = 0.5  # seconds in which the same signal may reach this process too, as from a terminal


@dataclass
class Slot:
    """The slot of one worker. number: from 1 on. bound: its sockets. current: its process."""

    number: int
    bound: Sequence[Bound]
    current: WorkerProcess | None = None
    successor: WorkerProcess | None = None  # starts, and will be current when it serves
    generation: int = 0
    delay: float = RESTART_DELAYS[0]
    restart: IDelayedCall | None = None  # the delayed call that starts the next process

    def next_name(self) -> str:
        """The name of the next process."""
        self.generation += 1
        return f"worker {self.number}" + (f".{self.generation}" if self.generation > 1 else "")

    def pop_delay(self, lifetime: float) -> float:
        """The seconds until the next start, after a process that lived for this time; then double them."""
        if lifetime >= STABLE_AFTER:
            self.delay = RESTART_DELAYS[0]
        delay, self.delay = self.delay, min(2 * self.delay, RESTART_DELAYS[1])
        return delay

    def cancel_restart(self) -> None:
        """Cancel the delayed start of the next process."""
        if self.restart is not None and self.restart.active():
            self.restart.cancel()
        self.restart = None


class SupervisorService(Service):
    """Runs ``--workers`` processes.

    settings: the options. words: the command line that gave them. flags: those of twistd to pass on. check:
    raises ValueError if a new worker could not start with what is on the disk. owner: of the files of UNIX
    sockets. on_open: called when all workers serve.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        words: Sequence[str],
        check: Callable[[], object],
        reactor: Any,
        *,
        flags: Sequence[str] = (),
        owner: Owner | None = None,
        on_open: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._check = check
        self._reactor = reactor
        self._owner = owner
        self._on_open = on_open
        # Both are found before twistd changes its directory: relative paths in the options start here.
        script = os.path.abspath(sys.argv[0])
        program = ["-m", "cyclone_sse"] if script.endswith("cyclone_sse/__main__.py") else [script]
        self._directory = os.getcwd()
        self._command = [sys.executable, *program, "-n", "--pidfile=", *flags, "cyclone-sse", *words]
        self._slots: list[Slot] = []
        self._processes: set[WorkerProcess] = set()  # all that have not ended
        self._replacing = self._is_reload_wanted = False
        self._kill_after = settings["drain"] + settings["drain-delay"] + KILL_AFTER
        self._last_check = reactor.seconds()
        self._checking = LoopingCall(self._kill_hung)
        self._checking.clock = reactor

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the ports, as many times as there are workers. Exits with one line if that fails."""
        try:
            first = open_sockets(self._settings, None, self._reactor, share=True, owner=self._owner)
            if any(each.factory is not None for each in first):
                raise ValueError("this --endpoint changes connections, which --workers cannot pass on")
            for number in range(self._settings["workers"]):
                bound = first if not number else [duplicate(each, number) for each in first]
                self._slots.append(Slot(number + 1, bound))
            refuse_same_ports([each for slot in self._slots for each in slot.bound])
        except ValueError as error:
            raise StartError(error) from None

    def startService(self) -> None:
        """Start all workers."""
        super().startService()
        self._checking.start(CHECK_INTERVAL, now=False)
        for slot in self._slots:
            slot.current = self._spawn(slot)
        all_ready = DeferredList([slot.current.ready for slot in self._slots if slot.current])
        all_ready.addCallback(self._log_start)

    def _log_start(self, results: Sequence[tuple[bool, bool]]) -> None:
        if all(ready for _, ready in results):
            addresses = dict.fromkeys(each.url for each in self._slots[0].bound)
            self.log.info(
                "{n} workers of cyclone-sse serve {addresses}",
                n=len(self._slots),
                addresses=" and ".join(addresses),
            )
        # Also if one does not start: it is restarted, and the others serve.
        self._on_open()

    def _spawn(self, slot: Slot) -> WorkerProcess:
        process = WorkerProcess(slot.next_name(), lambda: self._stops_by_itself(slot, process), self._reactor)
        settings = {name: self._settings[name] for name in SOCKET_OPTIONS}
        handover = Handover(slot.number, [each.serves for each in slot.bound], settings)
        sockets = {number: each.socket.fileno() for number, each in enumerate(slot.bound, FIRST_SOCKET)}
        self._processes.add(process)
        process.ended.addCallback(lambda _: self._ended(slot, process))
        try:
            self._reactor.spawnProcess(
                process,
                self._command[0],
                self._command,
                env={**os.environ, **handover.environment()},
                path=self._directory if os.access(self._directory, os.X_OK) else None,
                childFDs={LIFELINE: "w", 1: "r", 2: "r", REPORTS: "r", **sockets},
            )
        except OSError as error:  # there is no memory, or there are too many processes or open files
            # Without this, no other process would ever be started in the slot, and the stop would hang. In
            # another turn, as any end: the caller has yet to note the process.
            self._reactor.callLater(0, process.note_failed_start, error.strerror)
        return process

    # While they run.

    def _ended(self, slot: Slot, process: WorkerProcess) -> None:
        self._processes.discard(process)
        if process is slot.current:
            slot.current = None
            if self.running and slot.successor is None:
                self._restart_later(slot, process)

    def _restart_later(self, slot: Slot, process: WorkerProcess) -> None:
        # Without this, connections to the socket of a worker that hangs would wait.
        delay = 0 if process.is_hung else slot.pop_delay(self._reactor.seconds() - process.started)
        slot.cancel_restart()
        slot.restart = self._reactor.callLater(delay, self._restart, slot)

    def _restart(self, slot: Slot) -> None:
        slot.restart = None
        if self.running and slot.current is None and slot.successor is None:
            slot.current = self._spawn(slot)

    def _stops_by_itself(self, slot: Slot, process: WorkerProcess) -> None:
        """Start a new worker in the slot at once: the old one was sent SIGTERM by an operator, and drains.

        Without this, connections to the slot's socket would wait until the old one has drained.
        """
        self._reactor.callLater(_STOP_TOGETHER, self._hand_over, slot, process)

    def _hand_over(self, slot: Slot, process: WorkerProcess) -> None:
        if self.running and process is slot.current and process.is_running and slot.successor is None:
            slot.current = self._spawn(slot)
            process.stop(self._kill_after)

    def _kill_hung(self) -> None:
        now = self._reactor.seconds()
        late = now - self._last_check > 6 * CHECK_INTERVAL
        self._last_check = now
        for process in list(self._processes):
            if late:
                process.restart_silence()
            else:
                process.kill_if_hung()

    def reload(self) -> None:
        """Replace all workers, one after another. Raises ValueError if a new one could not start."""
        self._check()
        self._is_reload_wanted = True
        if not self._replacing:
            Deferred.fromCoroutine(self._replace_all()).addErrback(
                lambda failure: self.log.failure("the workers could not be replaced", failure)
            )

    async def _replace_all(self) -> None:
        """Replace all workers, and again if that was ordered meanwhile, also after one that did not start."""
        self._replacing = True
        try:
            while self._is_reload_wanted and self.running:
                self._is_reload_wanted = False
                for slot in self._slots:
                    if not self.running or not await self._replace(slot):
                        break
                else:
                    self.log.info("all workers were replaced")
        finally:
            self._replacing = False

    async def _replace(self, slot: Slot) -> bool:
        """Start a new worker in the slot and stop the old one when the new one serves."""
        slot.cancel_restart()
        slot.successor = new = self._spawn(slot)
        is_ready = await new.ready
        slot.successor = None
        old = slot.current
        if is_ready and new.is_running and not new.is_stopping:
            slot.current = new
            if old is not None:
                old.stop(self._kill_after)
                await old.ended
            return True
        if self.running:
            if old is not None and old.is_stopping:
                # Without this, connections to the slot's socket would wait until the old one has drained.
                old.stop(self._kill_after)
                old = slot.current = None
            what = "nothing serves in its place" if old is None else f"{old.name} keeps serving"
            self.log.error(
                "{new} did not start: {what}; the other workers are not replaced", new=new.name, what=what
            )
            if old is None:
                self._restart_later(slot, new)
        return False

    # Stop.

    def stopService(self) -> Deferred[Any]:
        """Stop all workers, each of which drains. Fires when they have ended."""
        super().stopService()
        for slot in self._slots:
            slot.cancel_restart()
            for each in slot.bound:
                each.unlink()
                each.socket.close()
        for process in list(self._processes):
            process.stop(self._kill_after)
        gone = DeferredList([self._end_of(process) for process in self._processes])
        return gone.addCallback(self._stop_checking)

    def _end_of(self, process: WorkerProcess) -> Deferred[None]:
        end: Deferred[None] = Deferred()
        process.ended.chainDeferred(end)
        return end

    def _stop_checking(self, _: object) -> None:
        if self._checking.running:
            self._checking.stop()

    def hurry(self) -> None:
        """Kill the workers at once, after a second order to stop."""
        for process in list(self._processes):
            process.kill()
