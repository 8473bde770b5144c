"""Who takes part: the daemon with its default options, a bare C loop, and nginx with nchan if installed.

Each is a process on a free port that `load.c` can talk to. They are started afresh for each round.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.integration.process import Process, accepts, free_port
from tests.integration.servers import Nginx, SseServer

SOURCES = Path(__file__).parent
PROGRAMS = SOURCES / "bin"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")  # Debian: libnginx-mod-nchan
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SERVER_CORE = 0  # of a machine with several; the load runs on another

NCHAN_HTTP = """
server {
  listen 127.0.0.1:{port} backlog=4096;
  keepalive_requests 1000000;
  location = /subscribe { nchan_subscriber eventsource; nchan_channel_id base; }
  location = /publish { nchan_publisher; nchan_channel_id base; }
}
"""


def compile_programs() -> None:
    """Build load.c and limit.c; CalledProcessError when gcc is missing or fails."""
    PROGRAMS.mkdir(exist_ok=True)
    for name in ("load", "limit"):
        subprocess.run(["gcc", "-O2", "-o", PROGRAMS / name, SOURCES / f"{name}.c"], check=True)


class Limit(Process):
    """`limit.c`: what the kernel allows."""

    name = "limit"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    def argv(self) -> list[str]:
        return [str(PROGRAMS / "limit"), str(self.port)]

    def is_ready(self) -> bool:
        return accepts(self.port)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server and how to talk to it: request targets, and what precedes the message in a body."""

    name: str
    process: Limit | Nginx | SseServer
    subscribe: str
    publish: str
    prefix: str

    def pids(self) -> list[int]:
        """The server's processes: all of its session."""
        return [pid for pid, fields in _processes() if int(fields[3]) == self.process.pid]

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in self.pids())

    def cpu(self) -> float:
        """Seconds of processor time that it has used so far, in user space and in the kernel."""
        mine = self.pids()
        return sum((int(fields[11]) + int(fields[12])) / TICK for pid, fields in _processes() if pid in mine)

    def pin(self) -> None:
        """Keep it on one core, if there are several, so that the load has another to itself."""
        if (os.cpu_count() or 1) > 1:
            for pid in self.pids():
                os.sched_setaffinity(pid, {SERVER_CORE})


def _processes() -> list[tuple[int, list[str]]]:
    """Every process with what /proc/PID/stat says after its name: state, ppid, pgrp, session ..."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
        except OSError:
            continue  # it has just ended
    return found


def start_all(directory: Path) -> list[Contestant]:
    """Start one of each, the limit first."""
    directory.mkdir()
    contestants = [
        Contestant("limit", Limit(directory), "/", "/publish", ""),
        Contestant(
            "cyclone-sse", SseServer(directory), "/?channels=base", "/publish", "channel=base&message="
        ),
    ]
    if NCHAN.exists():
        nginx = Nginx(directory, NCHAN_HTTP, modules=[NCHAN.name])
        contestants.append(Contestant("nchan", nginx, "/subscribe", "/publish", ""))
    for contestant in contestants:
        contestant.process.start()
        contestant.pin()
    return contestants
