"""Connections that have more to do, a few in each turn of the reactor, in the order in which they came.

Without this, what many clients ask for in one moment would be done in one turn, in which no other client is
served. Knows nothing of connections: what waits is any function.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

BREAK = 0.001  # seconds without work, after which a new turn is assumed


class RunQueue:
    """A queue of functions, each called once. at_once: calls in one turn.

    seconds: of a turn, after which no other call is made in it.
    """

    def __init__(self, reactor: IReactorTime, at_once: int, seconds: float = math.inf) -> None:
        self._reactor = reactor
        self._at_once = at_once
        self._seconds = seconds
        self._waiting: OrderedDict[Callable[[], object], None] = OrderedDict()
        self._is_scheduled = False
        self._began_at = 0.0  # when the work of this turn started
        self._ran_at = -math.inf  # when the last of it was done
        self._is_used_up = False  # the time of this turn is

    def __len__(self) -> int:
        """The functions that wait."""
        return len(self._waiting)

    def add(self, run: Callable[[], object]) -> None:
        """Call this in another turn, after those that wait. One that waits already keeps its place."""
        self._waiting[run] = None
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.callLater(0, self._run)

    def acquire(self) -> bool:
        """Take time of this turn for work that does not wait in the queue; False if none is left.

        When a turn ends is not known here: work without a break, which ``note_run`` notes, counts as one.
        Once its time is used up, there is none until the functions that wait have had their turn.
        """
        if self._is_used_up and self._waiting:
            # Without this, reading from many connections without answering them would look like a break.
            return False
        now = self._reactor.seconds()
        if now - self._ran_at > BREAK:
            self._began_at = now
        self._is_used_up = now - self._began_at >= self._seconds
        return not self._is_used_up

    def note_run(self) -> None:
        """Note that work was done at this moment."""
        self._ran_at = self._reactor.seconds()

    def _run(self) -> None:
        began_at = self._began_at = self._reactor.seconds()
        try:
            for _ in range(min(len(self._waiting), self._at_once)):
                self._waiting.popitem(last=False)[0]()
                if self._reactor.seconds() - began_at > self._seconds:
                    break
        finally:
            # Also after an error: without this, one connection that fails would stop all others.
            self._began_at = self._reactor.seconds()
            self._is_used_up = False
            self._is_scheduled = bool(self._waiting)
            if self._is_scheduled:
                self._reactor.callLater(0, self._run)
