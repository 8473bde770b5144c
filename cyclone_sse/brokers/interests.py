"""What the upstream (Redis, RabbitMQ) is to be subscribed to, and what it has confirmed.

One record for each subscription says all there is to know of it::

    ASKED --confirmed--> CONFIRMED
      |                      ^
      +--not in time--> LATE-+    (clients were let in before: they are told of a gap then)

A subscription lives on for a while after the channel's last client has left, so that a page
that reloads, or a client whose connection broke, finds in the history what was published in
between. A client that comes waits until the upstream has confirmed: a stream that is open is a
stream that hears. Who waits holds all subscriptions that it is going to need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from cyclone_sse.deadlines import Deadlines

SUBSCRIBE_WAIT = 2.0  # seconds a client waits for the upstream before it is let in all the same
_GRACE = 1.0  # seconds in which a client comes that was told that all is ready


class Phase(Enum):
    """How far a subscription is."""

    ASKED = "asked"
    LATE = "late"
    CONFIRMED = "confirmed"


class Interest:
    """One subscription. listened: it has clients; waiting: clients that are about to come."""

    __slots__ = ("channel", "listened", "phase", "timer", "waiting")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.phase = Phase.ASKED
        self.listened = False
        self.waiting: dict[Waiter, None] = {}
        self.timer: Any = None


class Waiter:
    """One client that waits for its subscriptions to be confirmed.

    interests: all that it needs; it holds them until it is let in.
    """

    __slots__ = ("_interests", "_missing", "let_in")

    def __init__(self, interests: Sequence[Interest], missing: int) -> None:
        self._interests = interests
        self._missing = missing
        self.let_in: Deferred[None] = Deferred()

    def settle(self) -> Sequence[Interest]:
        """One that was missing is there, or late. After the last, gives what is held no longer."""
        self._missing -= 1
        if self._missing:
            return ()
        self.let_in.callback(None)
        return self._interests


class Interests:
    """All subscriptions of a broker.

    linger: seconds that one outlives its last client. subscribe, unsubscribe: called with a channel.
    """

    def __init__(
        self,
        linger: float,
        subscribe: Callable[[str], None],
        unsubscribe: Callable[[str], None],
        reactor: Any,
    ) -> None:
        self._linger = linger
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._reactor = reactor
        self._by_channel: dict[str, Interest] = {}
        self._lingering: Deadlines[str] = Deadlines(min(1.0, linger / 10) or 1.0)
        self._ticking = LoopingCall(self.unsubscribe_expired)
        self._ticking.clock = reactor

    def start(self) -> None:
        """Begin to give back what nobody wants any more."""
        self._ticking.start(min(1.0, self._linger / 10) or 1.0, now=False)

    def stop(self) -> None:
        """Give nothing back any more."""
        if self._ticking.running:
            self._ticking.stop()

    def names(self) -> set[str]:
        """Everything the upstream is to be subscribed to."""
        return set(self._by_channel)

    def is_confirmed(self, channel: str) -> bool:
        """Whether the upstream has said that it sends what is published in this channel."""
        interest = self._by_channel.get(channel)
        return interest is not None and interest.phase is Phase.CONFIRMED

    def ready(self, channels: Iterable[str]) -> Deferred[None] | None:
        """Subscribe to what is missing. None when all these are confirmed; else a Deferred that fires when
        they are, at the latest after SUBSCRIBE_WAIT seconds."""
        interests = [self._wanted(channel) for channel in channels]
        missing = [interest for interest in interests if interest.phase is Phase.ASKED]
        if not missing:
            for interest in interests:
                if not interest.listened and not interest.waiting:
                    self._let_go(interest, max(self._linger, _GRACE))
            return None
        waiter = Waiter(interests, len(missing))
        for interest in interests:
            interest.waiting[waiter] = None
        return waiter.let_in

    def keep(self, channels: Iterable[str]) -> None:
        """These channels have clients now."""
        for channel in channels:
            self._wanted(channel).listened = True

    def release(self, channels: Iterable[str]) -> None:
        """The last clients of these channels have left."""
        for channel in channels:
            interest = self._by_channel.get(channel)
            if interest is not None:
                interest.listened = False
                if not interest.waiting:
                    self._let_go(interest, self._linger)

    def is_late(self, channel: str) -> bool:
        """Whether clients were let in before the upstream had confirmed."""
        interest = self._by_channel.get(channel)
        return interest is not None and interest.phase is Phase.LATE

    def confirm(self, channel: str) -> None:
        """The upstream has the subscription: let in who waits for it."""
        interest = self._by_channel.get(channel)
        if interest is not None:
            interest.phase = Phase.CONFIRMED
            self._settle(interest)

    def unsubscribe_expired(self) -> None:
        """Give back the subscriptions that nobody came back to."""
        for channel in self._lingering.due(self._reactor.seconds()):
            self._drop(channel)

    def _wanted(self, channel: str) -> Interest:
        interest = self._by_channel.get(channel)
        if interest is None:
            interest = self._by_channel[channel] = Interest(channel)
            interest.timer = self._reactor.callLater(SUBSCRIBE_WAIT, self._late, interest)
            self._subscribe(channel)
        else:
            self._lingering.clear(channel)
        return interest

    def _late(self, interest: Interest) -> None:
        interest.timer = None
        interest.phase = Phase.LATE
        self._settle(interest)

    def _settle(self, interest: Interest) -> None:
        if interest.timer is not None:
            interest.timer.cancel()
            interest.timer = None
        for waiter in list(interest.waiting):
            for held in waiter.settle():
                held.waiting.pop(waiter, None)
                if not held.listened and not held.waiting:
                    self._let_go(held, self._linger)

    def _let_go(self, interest: Interest, after: float) -> None:
        if interest.channel not in self._by_channel:
            return
        if after:
            self._lingering.set(interest.channel, self._reactor.seconds() + after)
        else:
            self._drop(interest.channel)

    def _drop(self, channel: str) -> None:
        interest = self._by_channel.pop(channel)
        if interest.timer is not None:
            interest.timer.cancel()
        self._unsubscribe(channel)
