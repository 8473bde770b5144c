"""The clients of the crowd: several processes of `crowd.c`, which get the same commands at the same time."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Self

from bench.programs import program

PER_PROCESS = 15_000  # clients: a process has 20,000 descriptors on many machines
TARGET = "/?channels=base&fields=channel"

Answer = dict[str, float]


class Crowd:
    """The clients of the server at a port. Raises RuntimeError with the message of a failed process."""

    def __init__(self, port: int, count: int) -> None:
        self.count = count
        self._port = port
        whole, rest = divmod(count, PER_PROCESS)
        self._shares = [PER_PROCESS] * whole + ([rest] if rest else [])
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        for number in range(1, len(self._shares) + 1):
            words = [str(program("crowd")), str(self._port), TARGET, f"127.1.{number}.1"]
            self._processes.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.communicate()

    def connect(self) -> int:
        """Connect all clients; returns how many are connected in the end."""
        answers = self._tell(*(f"connect {share}" for share in self._shares))
        return int(sum(answer["connected"] for answer in answers))

    def begin(self) -> None:
        """Start connecting all clients, without waiting for the connections."""
        self._tell(*(f"begin {share}" for share in self._shares))

    def hear(self, number: int, seconds: float) -> tuple[int, float]:
        """The clients that receive this number in time, and when (time.monotonic()) the last of them does."""
        answers = self._tell(f"await {number} {seconds:g}")
        return int(sum(answer["reached"] for answer in answers)), max(answer["at"] for answer in answers)

    def settle(self, seconds: float) -> int:
        """Wait until all clients are connected, or the time is over; returns how many are connected."""
        return int(sum(answer["connected"] for answer in self._tell(f"settle {seconds:g}")))

    def cut(self, share: float) -> None:
        """Cut off this share of each process's clients, which then reconnect by themselves."""
        self._tell(*(f"cut {int(share * clients)}" for clients in self._shares))

    def state(self) -> Counter[str]:
        """The totals of connected, lost, doubled, gaps, cut_off and refused."""
        found: Counter[str] = Counter()
        for answer in self._tell("state"):
            found.update({name: int(value) for name, value in answer.items()})
        return found

    def _tell(self, *commands: str) -> list[Answer]:
        """Send each process its command, or all of them the only one, and wait for the answers."""
        for number, process in enumerate(self._processes):
            assert process.stdin
            process.stdin.write(commands[number % len(commands)] + "\n")
            process.stdin.flush()
        return [self._answer(process) for process in self._processes]

    def _answer(self, process: subprocess.Popen[str]) -> Answer:
        assert process.stdout
        line = process.stdout.readline()
        if not line.endswith("}\n"):
            raise RuntimeError(process.communicate()[1].strip())
        answer: Answer = json.loads(line)
        return answer
