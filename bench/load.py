"""One run of `load.c` against one server: its commands, one on each line, and its measurements."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Self

from bench.contestants import SERVER_CORE, Contestant
from bench.programs import program
from bench.results import LeftOut

SIZE = 60  # bytes of a message
MARK = "ZQWVY"  # load.c counts these
REFUSED = 3  # the exit code of load.c after an answer 4xx or 5xx

Measured = dict[str, float]


def message(size: int = SIZE) -> str:
    """A message that ends with the mark, and so counts as one event."""
    return "x" * (size - len(MARK)) + MARK


class Load:
    """Subscribers to some channels of one server, from `with` to its end; each method is a phase.

    Raises RuntimeError with the program's reason if the program fails, and LeftOut if the server refuses a
    request.
    """

    def __init__(self, contestant: Contestant, channels: Sequence[str] = ("base",)) -> None:
        self.contestant = contestant
        self.channels = channels
        self.subscribers = 0
        self.connect_seconds = 0.0
        self._memory_before = 0
        self._requests = contestant.process.directory / f"requests-{os.getpid()}"

    def __enter__(self) -> Self:
        contestant = self.contestant
        words = [str(program("load", contestant.tls)), str(contestant.port), contestant.target(self.channels)]
        words += [contestant.path] if contestant.path else []
        pipe = subprocess.PIPE
        self._program = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        leave_the_servers_core(self._program.pid)
        if contestant.polls:
            self._tell("poll")
        return self

    def __exit__(self, *_: object) -> None:
        if self._program.returncode is None:
            self._program.communicate()
        self._requests.unlink(missing_ok=True)

    def connect(self, subscribers: int) -> float:
        """Connect these subscribers; returns the seconds until all streams are open."""
        self.subscribers = subscribers
        self._memory_before = self.contestant.memory()
        self.connect_seconds = self._tell(f"connect {subscribers}")["seconds"]
        return self.connect_seconds

    def memory_for_each(self) -> float:
        """KiB by which the server has grown for each of these subscribers."""
        return (self.contestant.memory() - self._memory_before) / self.subscribers / 1024

    def come_back(self, subscribers: int, events: int, last_event_id: str) -> float:
        """Resume this number of streams; returns the seconds until all have received the missed events."""
        self.subscribers = subscribers
        return self._tell(f"return {subscribers} {events} {last_event_id}")["seconds"]

    def poll_again(self) -> float:
        """Send the next long polls, with the id of the last event; returns the seconds until all wait."""
        return self._tell("again")["seconds"]

    def drop(self) -> None:
        """Close all streams, and wait until the server has noticed."""
        self._tell("drop")
        settle(self.contestant)

    def publish_with(self, requests: Sequence[bytes], port: int | None = None, connections: int = 1) -> None:
        """Set the requests that are sent in turn, all of the same size, to the server or another port."""
        size = len(requests[0])
        assert all(len(request) == size for request in requests)
        self._requests.write_bytes(b"".join(requests))
        self._tell(f"publish {port or self.contestant.port} {connections} {size} {self._requests}")

    def publish_to_all(self) -> None:
        """Set one message to `base` as the request to publish."""
        self.publish_with([self.contestant.publish("base", message())])

    def time(self, messages: int, each: int | None = None) -> Measured:
        """Seconds to the first and the last of `each` receivers (default: all), one message at a time."""
        return self._tell(f"time {messages} {self.subscribers if each is None else each}")

    def flow(self, messages: int, each: int | None = None, window: int = 4) -> Measured:
        """Deliveries and publishes a second with `window` messages under way."""
        return self._tell(f"flow {messages} {self.subscribers if each is None else each} {window}")

    def _tell(self, command: str) -> Measured:
        assert self._program.stdin
        assert self._program.stdout
        self._program.stdin.write(command + "\n")
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        if not answer.endswith("}\n"):
            complaint = self._program.communicate()[1].strip()
            what = LeftOut if self._program.returncode == REFUSED else RuntimeError
            raise what(f"{self.contestant.name}, {command.partition('/')[0]}: {complaint}")
        measured: Measured = json.loads(answer)
        return measured


def leave_the_servers_core(pid: int) -> None:
    """Keep a process (0: the calling thread) off the server's core, if the machine has several."""
    others = set(range(os.cpu_count() or 1)) - {SERVER_CORE}
    if others:
        os.sched_setaffinity(pid, others)


def settle(contestant: Contestant, limit: float = 5.0) -> None:
    """Wait until the server has finished the work of the last run, and uses no processor for a moment."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = contestant.cpu()
        time.sleep(0.1)
        if contestant.cpu() == before:
            return
