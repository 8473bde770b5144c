"""The longest turn of the reactor in the last minute.

While a turn lasts, no client is served. A timer that should run 20 times a second is late by the length of
the turn that delayed it, to within its interval. It costs a quarter of a percent of a core, and runs only
with an admin port.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

WATCH_INTERVAL = 0.05  # seconds
WINDOW = 60  # seconds


class TurnWatch:
    """Watches one reactor. ``start`` it when the reactor runs."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._seconds: deque[float] = deque([0.0], WINDOW)  # the longest turn of each second
        self._second = self._last = reactor.seconds()
        self._call = LoopingCall(self._look)
        self._call.clock = reactor

    def start(self) -> None:
        """Watch from now on."""
        self._second = self._last = self._reactor.seconds()
        self._call.start(WATCH_INTERVAL, now=False)

    def stop(self) -> None:
        """Stop watching."""
        if self._call.running:
            self._call.stop()

    def longest(self) -> float:
        """The seconds that the longest turn of the last minute took."""
        return max(self._seconds)

    def _look(self) -> None:
        now = self._reactor.seconds()
        late = max(0.0, now - self._last - WATCH_INTERVAL)
        self._last = now
        while now - self._second >= 1 and len(self._seconds) <= WINDOW:
            self._second += 1
            self._seconds.append(0.0)
            if now - self._second > WINDOW:
                self._second = now
        self._seconds[-1] = max(self._seconds[-1], late)
