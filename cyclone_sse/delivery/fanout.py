"""The one walk over the clients: events, gaps, pings and farewells.

A walk over very many clients gives the reactor a turn now and then. That must not break the order
of what a client gets, so there is one queue of walks, and each is finished before the next begins:
whatever is asked for after an event reaches a client after that event.

The inner loop of ``_serve`` is the fast path of this server. It must add next to nothing to the
kernel's ``send()``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.turn import Group, Turn

SLICE = 500  # clients served before the reactor gets a turn: about 5 ms


class Fanout:
    """Gathers events for the length of a turn, then walks over those who are due them.

    registry: who listens. reactor: the clock, and its turns. slice: clients served in a turn.
    """

    log = Logger()

    def __init__(
        self, registry: Channels[Client], counters: Counters, reactor: Any, slice: int = SLICE
    ) -> None:
        self._registry = registry
        self._counters = counters
        self._reactor = reactor
        self._slice = slice
        self._turn: Turn | None = None  # what was published and is on no walk yet
        self._walks: deque[Iterator[None]] = deque()
        self._scheduled = False
        self._waiting: list[Deferred[None]] = []

    def add(self, event: Event) -> None:
        """Give the event to the subscribers of its channels, after this turn of the reactor."""
        if self._turn is None:
            self._turn = Turn(self._reactor.seconds())
            self._schedule()
        self._turn.add(event)

    def each(self, clients: Sequence[Client], step: Callable[[Client], None]) -> None:
        """Do something with each of these clients, after what was asked for before."""
        self._begin_turn()
        self._walks.append(self._steps(clients, step))
        self._schedule()

    def idle(self) -> Deferred[None]:
        """Fires when everything asked for has been done."""
        waiting: Deferred[None] = Deferred()
        if self._turn is None and not self._walks:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def _begin_turn(self) -> None:
        if self._turn is not None:
            turn, self._turn = self._turn, None
            self._walks.append(self._serve(turn))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        """Serve one slice. While a walk is under way, events gather for the next one."""
        self._scheduled = False
        if not self._walks:
            self._begin_turn()
        while self._walks:
            try:
                next(self._walks[0])
            except StopIteration:
                self._walks.popleft()
                continue
            except Exception:
                self.log.failure("a walk over the clients failed")
                self._walks.popleft()
            self._schedule()
            return
        if self._turn is not None:
            self._schedule()
            return
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _steps(self, clients: Sequence[Client], step: Callable[[Client], None]) -> Iterator[None]:
        for start in range(0, len(clients), self._slice):
            for client in clients[start : start + self._slice]:
                try:
                    step(client)
                except Exception:
                    # One client's failure is not to end the walk for the others.
                    self.log.failure("could not send to a subscriber")
            yield

    def _serve(self, turn: Turn) -> Iterator[None]:
        """Walk over everybody who is due something of this turn."""
        counters, served = self._counters, 0
        for group in turn.groups(self._registry):
            if group is None:
                yield
                continue
            frames = tuple(event.frame for event in group.events)
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            counters.deliveries += len(group.clients) * len(frames)
            counters.sent_bytes += len(group.clients) * len(data)
            served += len(frames) // 4  # joining them takes time too
            left = 0
            while left < len(group.clients):
                part = group.clients[left : left + max(1, self._slice - served)]
                self._send(part, group, data, frames, turn.first)
                left += len(part)
                served += len(part)
                if served >= self._slice:
                    served = 0
                    yield
        counters.fanout_seconds.observe(self._reactor.seconds() - turn.taken)

    def _send(
        self, clients: list[Client], group: Group, data: bytes, frames: tuple[bytes, ...], first: int
    ) -> None:
        now = self._reactor.seconds()
        for client in clients:
            try:
                if client.skip_until < first and client.shares_frames:
                    client.last_sent_at = now
                    client.send(data, frames)
                else:
                    due = [event for event in group.events if event.seq > client.skip_until]
                    if due:
                        client.last_sent_at = now
                        client.deliver(due)
            except Exception:
                # A custom application's sendEvent; the others are not to suffer.
                self.log.failure("could not send to a subscriber")
