"""What a worker and the process that started it agree on: descriptors and one variable.

A worker is this same program; its sockets are handed to it, so that those of one that is replaced
or has died go on to take connections. Descriptor 0 is a pipe from the parent, which ends when the
parent does; on descriptor 3 the worker says that it serves; from 4 on there are the sockets.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import FileLogObserver, ILogObserver, formatEventAsClassicLogText

from cyclone_sse.daemon.sockets import Bound
from cyclone_sse.options import WORKER_VARIABLE

LIFELINE, READY, FIRST_SOCKET = 0, 3, 4


@dataclass(frozen=True, slots=True)
class Handover:
    """What a worker is given. number: its own, from 1 on. serves: what each socket is for."""

    number: int
    serves: list[str]

    def environment(self) -> dict[str, str]:
        """What says so in the worker's environment, besides the parent's."""
        return {WORKER_VARIABLE: json.dumps(asdict(self))}

    def sockets(self) -> list[Bound]:
        """The sockets; to be taken once."""
        return [
            Bound(socket.socket(fileno=number), serves, shared=True)
            for number, serves in enumerate(self.serves, FIRST_SOCKET)
        ]


def pop_handover(environment: MutableMapping[str, str]) -> Handover | None:
    """Take the handover out of the environment; None if this process is no worker."""
    text = environment.pop(WORKER_VARIABLE, None)
    return None if text is None else Handover(**json.loads(text))


def send_ready() -> None:
    """Tell the parent that this worker serves."""
    os.write(READY, b"ready")
    os.close(READY)


class Lifeline(FileDescriptor):
    """Notices the end of the parent. lost: called then."""

    def __init__(self, lost: Callable[[], None], reactor: Any) -> None:
        super().__init__(reactor)
        os.set_blocking(LIFELINE, False)
        self._lost = lost

    def fileno(self) -> int:
        """The pipe from the parent."""
        return LIFELINE

    def doRead(self) -> Any:
        """The parent never writes: it has gone."""
        try:
            data = os.read(LIFELINE, 100)
        except BlockingIOError:
            return None
        return None if data else CONNECTION_DONE

    def connectionLost(self, reason: Any) -> None:
        """Go as well."""
        super().connectionLost(reason)
        self._lost()


def observer() -> ILogObserver:
    """Writes log lines for the parent, which puts the time and the worker's name before them."""

    def text(event: Any) -> str | None:
        line = formatEventAsClassicLogText(event, formatTime=lambda _: "")
        return line and line.lstrip()

    return FileLogObserver(sys.stdout, text)
