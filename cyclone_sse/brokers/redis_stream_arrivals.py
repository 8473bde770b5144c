"""The entries that clients wait for: those that they have from another server, and this one has not read yet.

When very many clients move from one server to another, all of them may wait for the same entry, so they are
released in slices. Knows positions, and no stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.slices import Slices, release

RELEASED_AT_ONCE = 100  # waiting clients that are released in one slice: about 6 ms
AHEAD_WAIT = 2.0  # seconds that a client waits until we have read the events that it has from another server


class Arrivals:
    """The clients, and the positions that they wait for. position: returns the one that was read last."""

    def __init__(self, position: Callable[[], int], slices: Slices, reactor: IReactorTime) -> None:
        self._position = position
        self._slices = slices
        self._reactor = reactor
        self._waiting: dict[Deferred[None], int] = {}
        self._is_releasing = False  # some of them, in slices

    def __len__(self) -> int:
        """The clients that wait."""
        return len(self._waiting)

    def wait_for(self, seq: int) -> Deferred[None]:
        """A Deferred that fires when this position has been read; TimeoutError after AHEAD_WAIT seconds."""
        waiting: Deferred[None] = Deferred()
        self._waiting[waiting] = seq
        return waiting.addBoth(self._forget, waiting).addTimeout(AHEAD_WAIT, self._reactor)

    def _forget(self, result: Any, waiting: Deferred[None]) -> Any:
        del self._waiting[waiting]
        return result

    def release(self) -> None:
        """Release the clients whose position has been read by now, in slices."""
        if self._waiting and not self._is_releasing:
            self._is_releasing = True
            self._slices.put(self._release_each())

    def _release_each(self) -> Iterator[None]:
        last = None
        while last != self._position():  # else more was read meanwhile, or other ids were
            last = self._position()
            due = [waiting for waiting, seq in self._waiting.items() if seq <= last]
            yield from release(due, None, RELEASED_AT_ONCE)
        self._is_releasing = False
