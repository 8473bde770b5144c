"""What the upstream (Redis, RabbitMQ) is to be subscribed to, and what it has confirmed.

A subscription lives on for a while after the channel's last client has left, so that a page
that reloads, or a client whose connection broke, finds in the history what was published in
between. A client that comes waits until the upstream has confirmed: a stream that is open is a
stream that hears. The time is an argument; only ``ready`` knows a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

LINGER = 60.0  # seconds a subscription outlives its last client
SUBSCRIBE_WAIT = 2.0  # seconds a client waits for the upstream before it is let in all the same


class Interests:
    """The names that matter at present.

    linger: seconds. reactor: the clock for the time that clients wait.
    """

    def __init__(self, linger: float, reactor: Any) -> None:
        self.linger = linger
        self._reactor = reactor
        self._until: dict[str, float] = {}  # name -> when it ends; inf while it has clients
        self._waiting: dict[str, list[Deferred[None]]] = {}  # not yet confirmed
        self._late: set[str] = set()  # not confirmed in time: clients were let in

    def names(self) -> set[str]:
        """Everything the upstream is to be subscribed to."""
        return set(self._until)

    def expect(self, channel: str, now: float) -> bool:
        """A client is about to come. True if the channel is new here: subscribe."""
        new = channel not in self._until
        # Not over before the client is there, however short the linger time.
        until = now + max(self.linger, SUBSCRIBE_WAIT + 1)
        self._until[channel] = max(self._until.get(channel, 0.0), until)
        if new:
            self._waiting[channel] = []
        return new

    def hold(self, channel: str) -> None:
        """The channel has clients, for as long as nobody says otherwise."""
        self._until[channel] = math.inf

    def leave(self, channel: str, now: float) -> None:
        """The channel's last client has left."""
        self._until[channel] = now + self.linger

    def expired(self, now: float) -> list[str]:
        """Take out the channels that nobody came back to: unsubscribe."""
        over = [channel for channel, until in self._until.items() if until <= now]
        for channel in over:
            del self._until[channel]
            self._late.discard(channel)
            self._release(channel)
        return over

    def confirm(self, channel: str) -> bool:
        """The upstream has the subscription. True if clients were let in before."""
        self._release(channel)
        late = channel in self._late
        self._late.discard(channel)
        return late

    def _let_in(self, channel: str, _: Deferred[None]) -> None:
        self._late.add(channel)

    def _release(self, channel: str) -> None:
        for waiter in self._waiting.pop(channel, ()):
            if not waiter.called:  # its time may be over
                waiter.callback(None)

    def ready(self, channels: Iterable[str]) -> Deferred[Any] | None:
        """None when all these are confirmed; else a Deferred that fires when they are, at the
        latest after SUBSCRIBE_WAIT seconds."""
        waiters = []
        for channel in channels:
            if channel in self._waiting and channel not in self._late:
                waiter: Deferred[None] = Deferred(partial(self._let_in, channel))
                self._waiting[channel].append(waiter)
                waiters.append(waiter.addTimeout(SUBSCRIBE_WAIT, self._reactor))
        return DeferredList(waiters, consumeErrors=True) if waiters else None
