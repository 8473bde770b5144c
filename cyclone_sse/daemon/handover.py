"""The interface between a worker and its parent process: descriptors, reports and one variable.

A worker runs the same program, with sockets of the parent, so that the sockets of a worker that was replaced
or has crashed continue to accept connections. Descriptor 0 is a pipe from the parent, which ends when the
parent does; the worker reports on descriptor 3; the sockets are from 4 on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import LoopingCall
from twisted.logger import FileLogObserver, ILogObserver, formatEventAsClassicLogText
from twisted.python.failure import Failure

from cyclone_sse.daemon.sockets import Bound
from cyclone_sse.options import WORKER_VARIABLE

LIFELINE, REPORTS, FIRST_SOCKET = 0, 3, 4
READY, ALIVE, STOPPING = b"r", b".", b"s"  # what a worker reports
REPORT_INTERVAL = 2.0  # seconds
# The options of the sockets, which the parent has opened: another value counts when it is restarted.
SOCKET_OPTIONS = (
    "workers",
    "port",
    "listen",
    "endpoint",
    "use-ssl",
    "ssl-port",
    "ssl-listen",
    "admin-port",
    "admin-listen",
)


@dataclass(frozen=True, slots=True)
class Handover:
    """The data for a worker. number: its own, from 1 on. serves: the purpose of each socket. settings: the
    parent's SOCKET_OPTIONS."""

    number: int
    serves: list[str]
    settings: dict[str, Any]

    def environment(self) -> dict[str, str]:
        """The variable with this data, for the environment of the worker."""
        return {WORKER_VARIABLE: json.dumps(asdict(self))}

    def apply(self, settings: MutableMapping[str, Any]) -> list[str]:
        """Set the options of the sockets to the parent's values. Returns those that were others.

        Without this, an options file that was edited could name a port for which there is no socket.
        """
        own = json.loads(json.dumps({name: settings[name] for name in self.settings}))  # with lists, as ours
        changed = {name: value for name, value in self.settings.items() if own[name] != value}
        settings.update(changed)
        return list(changed)

    def sockets(self) -> list[Bound]:
        """Make socket objects for the descriptors; to be called once."""
        return [
            Bound(socket.socket(fileno=number), serves, shared=True)
            for number, serves in enumerate(self.serves, FIRST_SOCKET)
        ]


def pop_handover(environment: MutableMapping[str, str]) -> Handover | None:
    """Remove the handover from the environment and return it; None if this process is not a worker."""
    text = environment.pop(WORKER_VARIABLE, None)
    return None if text is None else Handover(**json.loads(text))


class Reports:
    """Reports of a worker to its parent. fileno: of the pipe."""

    def __init__(self, reactor: Any, fileno: int = REPORTS) -> None:
        self._fileno = fileno
        os.set_blocking(fileno, False)
        self._alive = LoopingCall(self.send, ALIVE)
        self._alive.clock = reactor

    def start(self) -> None:
        """Report from now on that this process is alive; a process whose reactor hangs does not report."""
        self._alive.start(REPORT_INTERVAL)

    def send(self, report: bytes) -> None:
        """Send one report. Ignore a parent that does not read, or has ended."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._fileno, report)


class Lifeline(FileDescriptor):
    """The pipe from the parent. on_lost: called when the parent ends."""

    def __init__(self, on_lost: Callable[[], None], reactor: Any) -> None:
        super().__init__(reactor)
        os.set_blocking(LIFELINE, False)
        self._on_lost = on_lost

    def fileno(self) -> int:
        """The descriptor of the pipe."""
        return LIFELINE

    def doRead(self) -> Any:
        """Notice the end of the pipe; the parent never writes."""
        try:
            data = os.read(LIFELINE, 100)
        except BlockingIOError:
            return None
        return None if data else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """Report the end of the parent to this process."""
        super().connectionLost(reason)
        self._on_lost()


def pipe_observer() -> ILogObserver:
    """Make the observer that writes log lines for the parent, which adds time and worker to them."""

    def text(event: Any) -> str | None:
        line = formatEventAsClassicLogText(event, formatTime=lambda _: "")
        return line and line.lstrip()

    return FileLogObserver(sys.stdout, text)
