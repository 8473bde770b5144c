"""One child process for a test: start it, wait until it is ready, stop, kill, pause or restart it.

Nothing here waits for a fixed time: `until` asks for a condition again and again, and fails in the end.
`Process` knows nothing of what it runs; the servers that do stand in `servers.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self, TypeVar

import pytest

from tests.harness import evidence
from tests.harness.patience import PATIENCE
from tests.harness.ports import free_port as free_port  # noqa: PLC0414

ROOT = Path(__file__).resolve().parents[2]

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "the condition") -> T:
    """Call `condition` until what it returns is true, and return that; AssertionError after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.01)
    return result


def accepts(port: int) -> bool:
    """Whether that port of 127.0.0.1 accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def connections(pid: int, port: int | None = None) -> int:
    """How many established TCP connections a process has, those to this port of its own if one is given."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    ours = [row[1] for row in rows if row[3] == "01" and row[9] in sockets]
    return len([local for local in ours if port is None or local.endswith(f":{port:04X}")])


def need(program: str) -> str:
    """The path of a program; without it the test is skipped, and under CI=true it fails."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        left_out(f"{program} is not installed")
    return path


def left_out(why: str) -> NoReturn:
    """End this test because the machine lacks something: a skip, but a failure under CI=true."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{why}, and CI=true allows no gap")
    pytest.skip(why)


class Process:
    """A child process in a session of its own, whose output goes to `<directory>/<name>.log`.

    A subclass gives the command line (`argv`), and says when it is ready (`is_ready`, asked again and again).
    """

    name = "process"
    pass_fds: Sequence[int] = ()  # descriptors of ours that the child gets too

    def __init__(
        self, directory: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.directory = directory
        self.env = dict(env or {})
        self.cwd = cwd
        self.log_path = directory / f"{self.name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def argv(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the process does its work by now."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What all runs of this process have written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log_of_this_run(self) -> str:
        """What the process has written since it was last started."""
        return self.log[self._log_start :]

    @property
    def pid(self) -> int:
        """The process id of the child."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> Self:
        """Start the process and return when it is ready; AssertionError with its log when it ends before."""
        assert not self.running, f"{self.name} runs already"
        evidence.offer(self, self.name, self.tell)
        self._log_start = len(self.log)
        with self.log_path.open("ab") as output:
            self._child = subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.env,
                cwd=self.cwd,
                start_new_session=True,
                pass_fds=self.pass_fds,
            )
        try:
            until(lambda: not self.running or self.is_ready(), f"{self.name} is ready")
        except BaseException:
            self.kill()
            raise
        assert self.running, (
            f"{self.name} ended at start with {self._child.returncode}:\n{self.log_of_this_run}"
        )
        return self

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its children."""
        if self.running:
            os.killpg(self.pid, number)

    def wait(self) -> int:
        """Wait until the process has ended; returns its exit code."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.wait(PATIENCE)

    def stop(self) -> None:
        """Ask the process to end, and wait until it has; it is killed when it does not listen."""
        if not self.running:
            return
        self.resume()
        self.send_signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end on SIGTERM:\n{self.log_of_this_run}") from None

    def kill(self) -> None:
        """End the process at once, as a crash or the kernel would."""
        if self.running:
            self.send_signal(signal.SIGKILL)
            self.wait()

    def restart(self) -> Self:
        """Stop and start again, on the same port."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the process: its connections stay open and get no answer."""
        self.send_signal(signal.SIGSTOP)
        # A thread that runs on another core may still answer something first.
        until(lambda: set(self._states()) <= {"T", "Z"}, f"{self.name} stands still")

    def _states(self) -> Iterator[str]:
        """The state of each process of ours, as the kernel calls it (proc(5))."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.pid:
                    yield state

    def resume(self) -> None:
        """Resume a frozen process."""
        self.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        evidence.withdraw(self)
        self.stop()

    def tell(self) -> str:
        """The end of its log, and whether it runs, for the report of a test that failed."""
        ended = "" if self._child is None or self.running else f"ended with {self._child.returncode}\n"
        return self.log + ended
