"""The turns of the reactor: how long one serves sockets, and what is called at its end.

Twisted's reactor for epoll serves all sockets that are ready before it calls anything that is due. Without a
limit, a proxy that dies with the streams of 9,000 clients, or clients that all reconnect in one moment, would
be one turn, in which no other client is served. epoll reports in the next turns what was not served in this
one, so that no socket waits for long.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from typing import Any

from twisted.logger import Logger

SOCKETS_A_TURN = 100  # mostly less than 5 ms
SOCKETS_TIME = 0.01  # seconds; a client of 500 rooms that leaves takes 2 ms


class _Poller:
    """An epoll object that reports sockets for a limited time in one call. clock: seconds.

    due: what is called once when these sockets have been served.
    """

    log = Logger()

    def __init__(self, epoll: Any, clock: Callable[[], float]) -> None:
        self._poll = epoll.poll
        self._clock = clock
        self._most = SOCKETS_A_TURN  # for which there is probably time in a turn
        self.due: list[Callable[[], object]] = []
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister

    def poll(self, timeout: float, most: int) -> Iterator[tuple[int, int]]:
        return self._for_a_time(self._poll(0 if self.due else timeout, min(most, self._most)))

    def _for_a_time(self, found: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Report these sockets, each when the one before it has been served; then call what is due."""
        began, taken = self._clock(), 0.0
        for number, each in enumerate(found, 1):
            yield each
            taken = self._clock() - began
            if taken > SOCKETS_TIME:
                # Without this, epoll would report the same ones first in each turn: it moves those that it
                # reports behind those that wait.
                self._most = number
                break
        if taken < SOCKETS_TIME / 2:
            self._most = min(2 * self._most, SOCKETS_A_TURN)
        if self.due:
            self._call_due()

    def _call_due(self) -> None:
        due, self.due = self.due, []  # what these add is called in the next turn
        for call in due:
            try:
                call()
            except Exception:
                self.log.failure("a call at the end of a turn failed")


def shorten_turns(reactor: Any) -> None:
    """Limit the time for which this reactor serves sockets in a turn. Has no effect on one without epoll."""
    poller = getattr(reactor, "_poller", None)
    if hasattr(select, "epoll") and isinstance(poller, select.epoll):
        reactor._poller = _Poller(poller, reactor.seconds)


def call_soon(reactor: Any, call: Callable[[], object]) -> None:
    """Call this once, when the reactor has served the sockets of this turn; it cannot be cancelled.

    ``callLater(0, ...)`` does the same at three times the cost, and does it here where turns are not short.
    """
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, _Poller):
        poller.due.append(call)
    else:
        reactor.callLater(0, call)
