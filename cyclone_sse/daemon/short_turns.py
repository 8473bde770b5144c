"""Short turns: the reactor serves a limited number of sockets in each of them.

Twisted's reactor for epoll serves all sockets that are ready before it calls anything that is due. Without
this, a proxy that dies with the streams of 9,000 clients, or clients that all reconnect in one moment, would
be one turn, in which no other client is served. epoll reports in the next turn what it has not reported in
this one, so that no socket waits for long.
"""

from __future__ import annotations

import select
from typing import Any

SOCKETS_A_TURN = 100  # mostly less than 5 ms; 30 if each is that of a client of 500 channels that leaves


class _Poller:
    """An epoll object that reports a limited number of sockets in one call."""

    def __init__(self, epoll: Any) -> None:
        self._poll = epoll.poll
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._poll(timeout, min(most, SOCKETS_A_TURN))
        return found


def shorten_turns(reactor: Any) -> None:
    """Limit the sockets that this reactor serves in a turn. Has no effect on a reactor without epoll."""
    poller = getattr(reactor, "_poller", None)
    if hasattr(select, "epoll") and isinstance(poller, select.epoll):
        reactor._poller = _Poller(poller)
