"""One run of `load.c` against one server: connect, look at the idle server, publish."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.contestants import PROGRAMS, SERVER_CORE, Contestant

SIZE = 60  # bytes of a message


@dataclass(frozen=True, slots=True)
class Load:
    """So many subscribers, so many messages, so many of them under way at once."""

    subscribers: int
    messages: int
    window: int = 1


def nothing() -> None:
    """What most runs do while all are connected and nothing is published."""


def run(contestant: Contestant, load: Load, while_idle: Callable[[], None] = nothing) -> dict[str, float]:
    """What `load.c` measures; RuntimeError with its reason when it gave up."""
    numbers = [load.subscribers, load.messages, load.window, SIZE]
    port = str(contestant.process.port)
    words = [port, contestant.subscribe, contestant.publish, contestant.prefix, *map(str, numbers)]
    with subprocess.Popen(
        [str(PROGRAMS / "load"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        _leave_the_servers_core(program.pid)
        assert program.stdin
        assert program.stdout
        connected = program.stdout.readline()
        if connected:
            while_idle()
        rest, complaint = program.communicate("\n")
    if program.returncode:
        raise RuntimeError(f"{contestant.name}, {load}: {complaint.strip()}")
    measured: dict[str, float] = json.loads(connected) | json.loads(rest)
    return measured


def _leave_the_servers_core(pid: int) -> None:
    others = set(range(os.cpu_count() or 1)) - {SERVER_CORE}
    if others:
        os.sched_setaffinity(pid, others)


def settle(contestant: Contestant, limit: float = 5.0) -> None:
    """Wait until the server has done what is left of the last run: it uses no processor for a moment."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = contestant.cpu()
        time.sleep(0.1)
        if contestant.cpu() == before:
            return
