"""The output of `client.py`: its progress, and the report at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a time in milliseconds over the messages."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The distribution of some times in seconds; zeros if there are none."""
        ordered = sorted(seconds) or [0.0]
        at = [ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.9, 0.99, 1.0)]
        return cls(*(round(value * 1000, 3) for value in at))

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f}  p90 {self.p90:.2f}  p99 {self.p99:.2f}  max {self.max:.2f} ms"


@dataclass(slots=True)
class Report:
    """The measurements. Times to a subscriber start when the message is passed to the kernel."""

    connected: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    connect_seconds: float = 0.0
    connects_per_second: float = 0.0
    published: int = 0
    delivered: int = 0
    expected: int = 0
    deliveries_per_second: float = 0.0
    first_subscriber: Spread | None = None
    last_subscriber: Spread | None = None
    closed_by_server: int = 0
    cut: int = 0  # streams that the client itself cut off, so that they resume
    resumed: int = 0  # those that resumed, and received all events that they had missed
    resume_seconds: float = 0.0
    slow: int = 0  # streams that were not read
    slow_ended: int = 0  # those that the server has ended

    @property
    def complete(self) -> bool:
        """Whether every stream opened and stayed open, and every message reached all of them."""
        lost = self.failed or self.closed_by_server or self.resumed < self.cut
        return not lost and self.delivered == self.expected

    def __str__(self) -> str:
        rate = f"{self.connect_seconds:.2f} s, {self.connects_per_second:.0f}/s"
        lines = [f"connected         {self.connected} in {rate}"]
        lines += [f"failed            {count} x {reason}" for reason, count in self.failed.items()]
        if self.published:
            lines += [
                f"published         {self.published}, {self.delivered} of {self.expected} deliveries",
                f"deliveries        {self.deliveries_per_second:.0f}/s",
                f"first subscriber  {self.first_subscriber}",
                f"last subscriber   {self.last_subscriber}",
            ]
        if self.cut:
            lines.append(f"resumed           {self.resumed} of {self.cut} in {self.resume_seconds:.2f} s")
        if self.closed_by_server:
            lines.append(f"closed by server  {self.closed_by_server}")
        return "\n".join([*lines, self.sentence])

    @property
    def sentence(self) -> str:
        """The result, in one sentence."""
        wanted = self.connected + sum(self.failed.values())
        faults = []
        if self.failed:
            faults.append(f"{sum(self.failed.values())} of {wanted} streams did not open")
        if self.closed_by_server:
            faults.append(f"the server closed {self.closed_by_server} of {self.connected}")
        if self.delivered < self.expected:
            faults.append(f"{self.expected - self.delivered} of {self.expected} deliveries did not come")
        if self.resumed < self.cut:
            faults.append(
                f"{self.cut - self.resumed} of {self.cut} that were cut off did not get what they missed"
            )
        held = f"All {wanted} streams opened" if self.connected else "Nothing was opened"
        if self.connected > self.slow:
            held += ", and those that were read stayed open" if self.slow else " and stayed open"
        if self.connected and self.published:
            held += f", and {self.published} messages reached each that was read"
        if self.cut:
            held += "; disconnected, all reconnected and received what they had missed"
        text = f"It did not hold: {', '.join(faults)}" if faults else held
        if self.slow:
            text += f"; of {self.slow} that were not read, the server ended {self.slow_ended}"
        return f"{text}."


class Progress:
    """A progress bar on stderr, if stderr is a terminal."""

    WIDTH = 40
    INTERVAL = 0.1  # seconds between two updates

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.shown = sys.stderr.isatty()
        self._next = 0.0

    def show(self, done: int) -> None:
        """Draw the bar, unless it was drawn just before."""
        if self.shown and ((now := time.monotonic()) >= self._next or done == self.total):
            self._next = now + self.INTERVAL
            bar = "#" * (self.WIDTH * done // self.total)
            end = "\n" if done == self.total else ""
            line = f"\r{self.what} [{bar:<{self.WIDTH}}] {done}/{self.total}"
            print(line, end=end, file=sys.stderr, flush=True)
