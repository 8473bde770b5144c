"""The measured servers, with their request formats: the daemon, an earlier version of the daemon, a bare C
loop, and nginx with nchan if nchan is installed.

Each is a process on a free port, to which `load.c` connects. A trial may start further daemons with options
of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.machine import all_processes, resident_bytes
from bench.programs import program
from bench.results import EARLIER, LeftOut
from tests.harness.process import ROOT, Process, accepts, free_port
from tests.harness.servers import Nginx, SseServer

NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")  # Debian: libnginx-mod-nchan
TICK = os.sysconf("SC_CLK_TCK")
SERVER_CORE = 0  # of a machine with several; the load runs on another

NCHAN_HTTP = """
server {
  listen 127.0.0.1:{port} backlog=4096;
  keepalive_requests 1000000;
  location = /1 { nchan_subscriber eventsource; nchan_channel_id $arg_a; }
  location = /2 { nchan_subscriber eventsource; nchan_channel_id $arg_a $arg_b; }
  location = /3 { nchan_subscriber eventsource; nchan_channel_id $arg_a $arg_b $arg_c; }
  location = /publish { nchan_publisher; nchan_channel_id $arg_a; }
}
"""


class Limit(Process):
    """`limit.c`: what the kernel allows; with a certificate and its key, what OpenSSL allows."""

    name = "limit"

    def __init__(self, directory: Path, certificate: Sequence[Path] = ()) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.certificate = certificate

    def argv(self) -> list[str]:
        return [
            str(program("limit", bool(self.certificate))),
            str(self.port),
            *map(str, self.certificate),
        ]

    def is_ready(self) -> bool:
        return accepts(self.port)


@dataclass(slots=True)
class Contestant:
    """A running server, its address, and the resources that it uses. A subclass has the request format.

    Channels are `base`, and names that end in `%d`, which each subscriber replaces with its number.
    """

    name: str
    process: Limit | Nginx | SseServer
    port: int
    tls: bool = False
    core: int = field(default=SERVER_CORE)
    query: str = ""  # further parameters of subscribers, as "fields=channel"
    path: str = ""  # of a UNIX socket to connect to, instead of the port
    polls: bool = False  # subscribers ask for long polls

    def target(self, channels: Sequence[str]) -> str:
        """The request target of a subscriber to these channels."""
        raise NotImplementedError

    def publish(self, channel: str, message: str) -> bytes:
        """The request that publishes a message to a channel: a name, not a name with `%d`."""
        raise NotImplementedError

    def post(self, target: str, body: str, content_type: str = "text/plain") -> bytes:
        """The bytes of a POST request."""
        head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: {content_type}\r\n"
        return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()

    def start(self) -> None:
        """Start the server on a core of its own; raises LeftOut, with the server's reason, if that fails."""
        try:
            self.process.start()
        except AssertionError as error:
            raise LeftOut(str(error).strip().splitlines()[-1]) from None
        if (os.cpu_count() or 1) > 1:
            for pid in self.pids():
                os.sched_setaffinity(pid, {self.core})

    def pids(self) -> list[int]:
        """The server's processes: all of its session."""
        return [pid for pid, fields in all_processes() if int(fields[3]) == self.process.pid]

    def memory(self) -> int:
        """Resident bytes of all the server's processes."""
        return resident_bytes(self.pids())

    def cpu(self) -> float:
        """Seconds of processor time that the server has used so far, in user space and in the kernel."""
        return self._ticks(11, 12) / TICK

    def user_time(self) -> float:
        """Seconds of processor time in user space only, without the kernel's work for each socket."""
        return self._ticks(11) / TICK

    def _ticks(self, *columns: int) -> int:
        mine = self.pids()
        return sum(int(fields[one]) for pid, fields in all_processes() if pid in mine for one in columns)


class LimitContestant(Contestant):
    """The bare loop, whose only channels are the numbers at the end of names."""

    def target(self, channels: Sequence[str]) -> str:
        return "/%d" if any("%d" in name for name in channels) else "/"

    def publish(self, channel: str, message: str) -> bytes:
        number = "".join(filter(str.isdecimal, channel))
        return self.post(f"/{number or 'publish'}", message)


class SseContestant(Contestant):
    """The daemon."""

    def target(self, channels: Sequence[str]) -> str:
        return "/?" + "&".join([*(f"channels={name}" for name in channels), *filter(None, [self.query])])

    def publish(self, channel: str, message: str) -> bytes:
        form = "application/x-www-form-urlencoded"
        return self.post("/publish", f"channel={channel}&message={message}", form)


class NchanContestant(Contestant):
    """nginx with nchan, which has a location for each number of channels."""

    def target(self, channels: Sequence[str]) -> str:
        named = "&".join(f"{letter}={name}" for letter, name in zip("abc", channels, strict=False))
        return f"/{len(channels)}?{named}"

    def publish(self, channel: str, message: str) -> bytes:
        return self.post(f"/publish?a={channel}", message)


def limit(directory: Path, certificate: Sequence[Path] = ()) -> Contestant:
    """The bare loop, not started; with a certificate and its key, it serves only TLS."""
    process = Limit(directory, certificate)
    return LimitContestant("limit", process, process.port, bool(certificate))


def daemon(directory: Path, *options: str, name: str = "cyclone-sse", tls: bool = False) -> Contestant:
    """cyclone-sse with these options, not started; with `tls`, the load connects to its TLS port."""
    process = SseServer(directory, *options)
    return SseContestant(name, process, process.ssl_port if tls else process.port, tls)


def earlier(directory: Path, checkout: Path) -> Contestant:
    """The daemon of another checkout, not started, with the cyclone of this checkout."""
    code = f"{checkout}:{ROOT / 'cyclone_sse' / 'vendored'}"
    process = SseServer(directory, env={"PYTHONPATH": code})
    return SseContestant(EARLIER, process, process.port)


@contextmanager
def checkout_of(commit: str) -> Iterator[Path | None]:
    """A temporary directory with the files of a commit; None if git does not have the commit."""
    with TemporaryDirectory(prefix="cyclone-sse-earlier-") as directory:
        git = ["git", "-C", str(ROOT), "worktree"]
        add = [*git, "add", "--quiet", "--detach", f"{directory}/checkout", commit]
        if shutil.which("git") is None or subprocess.run(add, check=False, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(directory) / "checkout"
        finally:
            subprocess.run([*git, "remove", "--force", f"{directory}/checkout"], check=False)


def contestants(directory: Path, checkout: Path | None = None) -> list[Contestant]:
    """One contestant of each kind, not started, the limit first. checkout: files of an earlier version."""
    known = [limit(directory), daemon(directory)]
    if checkout is not None:
        known.append(earlier(directory, checkout))
    if NCHAN.exists():
        nginx = Nginx(directory, NCHAN_HTTP, modules=[NCHAN.name])
        known.append(NchanContestant("nchan", nginx, nginx.port))
    return known
