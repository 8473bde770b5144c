"""The turns of the reactor in which the log of all events is read for clients of patterns: once in each.

Without this, each of a thousand clients of patterns that come at once would read some of it, in one turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclone_sse.slices import Slices


class LogTurns:
    """The turn of the reactor in which the log was read, and the readings that wait for other turns."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting = Slices(reactor, fair=True)
        self._has_read = False  # in this turn

    def acquire(self) -> bool:
        """Note that the log is read at once; False if it must not be, since it was read in this turn."""
        if self._has_read or len(self._waiting):
            return False
        self._has_read = True
        self._reactor.callLater(0, self._end_turn)
        return True

    def add(self, reading: Iterator[None]) -> None:
        """Read in later turns, taking turns with the other readings."""
        self._waiting.add(reading)

    def _end_turn(self) -> None:
        self._has_read = False
