"""What the upstream (Redis, RabbitMQ) is to be subscribed to, and what it has confirmed.

One record for each subscription says all there is to know of it::

    REQUESTED --confirmed--> CONFIRMED
      |                      ^
      +--not in time--> LATE-+    (clients were let in before: they are told of a gap then)

    refused: the record is gone, with everybody who waited

A subscription lives on for a while after the channel's last client has left, so that a page
that reloads, or a client whose connection broke, finds in the history what was published in
between. A client that comes waits until the upstream has confirmed: a stream that is open is a
stream that hears. Who waits holds all subscriptions that it is going to need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import LoopingCall

from cyclone_sse.deadlines import Deadlines

SUBSCRIBE_WAIT = 2.0  # seconds a client waits for the upstream before it is let in all the same
_GRACE = 1.0  # seconds in which a client comes that was told that all is ready


class Phase(Enum):
    """How far a subscription is."""

    REQUESTED = "asked"
    LATE = "late"
    CONFIRMED = "confirmed"


class Subscription:
    """One subscription. listened: it has clients; waiting: clients that are about to come. link: on which
    connection it was asked for last. refusal: why it has come to nothing."""

    __slots__ = ("channel", "link", "listened", "phase", "refusal", "timer", "waiting")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.phase = Phase.REQUESTED
        self.listened = False
        self.waiting: dict[Waiter, None] = {}
        self.timer: Any = None
        self.link: object = None
        self.refusal: Exception | None = None


class Waiter:
    """One client that waits for its subscriptions to be confirmed.

    interests: all that it needs; it holds them until it is let in.
    """

    __slots__ = ("_interests", "_missing", "let_in")

    def __init__(self, interests: Sequence[Subscription], missing: int) -> None:
        self._interests = interests
        self._missing = missing
        self.let_in: Deferred[None] = Deferred()

    def settle(self) -> Sequence[Subscription]:
        """One that was missing is there, or late. After the last, gives what is held no longer."""
        self._missing -= 1
        if self._missing:
            return ()
        self.let_in.callback(None)
        return self._interests

    def fail(self, error: Exception) -> Sequence[Subscription]:
        """One of them is refused, and so the client is. Gives what is held no longer."""
        if self._missing:
            self._missing = 0
            self.let_in.errback(error)
        return self._interests


class Subscriptions:
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
        self._by_channel: dict[str, Subscription] = {}
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

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_channel.values())

    def get(self, channel: str) -> Subscription | None:
        """The record of a channel, if it is wanted."""
        return self._by_channel.get(channel)

    def ready(self, channels: Iterable[str]) -> Deferred[None] | None:
        """Subscribe to what is missing. None when all these are confirmed; else a Deferred that fires when
        they are, at the latest after SUBSCRIBE_WAIT seconds, and fails when one is refused."""
        interests = [self._wanted(channel) for channel in channels]
        refusals = [interest.refusal for interest in interests if interest.refusal is not None]
        missing = [interest for interest in interests if interest.phase is Phase.REQUESTED]
        if refusals or not missing:
            for interest in interests:
                if not interest.listened and not interest.waiting:
                    self._let_go(interest, max(self._linger, _GRACE))
            return fail(refusals[0]) if refusals else None
        waiter = Waiter(interests, len(missing))
        for interest in interests:
            interest.waiting[waiter] = None
        return waiter.let_in

    def keep(self, channels: Iterable[str]) -> None:
        """These channels have clients now."""
        for channel in channels:
            interest = self._wanted(channel)
            interest.listened = True
            if interest.phase is Phase.REQUESTED:  # it did not wait
                self._late(interest)

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
            asked = interest.phase is Phase.REQUESTED
            interest.phase = Phase.CONFIRMED
            if asked:  # else those who wait do so for another channel
                self._settle(interest)

    def refuse(self, channel: str, error: Exception) -> None:
        """The upstream does not want to: whoever waits for it is refused with this error."""
        interest = self._by_channel.pop(channel, None)
        if interest is None:
            return
        interest.refusal = error
        self._lingering.clear(channel)
        self._stop_timer(interest)
        for waiter in list(interest.waiting):
            self._release(waiter, waiter.fail(error))

    def unsubscribe_expired(self) -> None:
        """Give back the subscriptions that nobody came back to."""
        for channel in self._lingering.pop_due(self._reactor.seconds()):
            self._drop(channel)

    def _wanted(self, channel: str) -> Subscription:
        interest = self._by_channel.get(channel)
        if interest is None:
            interest = self._by_channel[channel] = Subscription(channel)
            interest.timer = self._reactor.callLater(SUBSCRIBE_WAIT, self._late, interest)
            self._subscribe(channel)
        else:
            self._lingering.clear(channel)
        return interest

    def _late(self, interest: Subscription) -> None:
        interest.phase = Phase.LATE
        self._settle(interest)

    def _settle(self, interest: Subscription) -> None:
        self._stop_timer(interest)
        for waiter in list(interest.waiting):
            self._release(waiter, waiter.settle())

    def _release(self, waiter: Waiter, interests: Sequence[Subscription]) -> None:
        """The waiter has come to its end: whoever was to come is a client by now, or has gone."""
        for held in interests:
            held.waiting.pop(waiter, None)
            if not held.listened and not held.waiting:
                self._let_go(held, self._linger)

    def _stop_timer(self, interest: Subscription) -> None:
        if interest.timer is not None:
            if interest.timer.active():
                interest.timer.cancel()
            interest.timer = None

    def _let_go(self, interest: Subscription, after: float) -> None:
        if self._by_channel.get(interest.channel) is not interest:
            return
        if after:
            self._lingering.set(interest.channel, self._reactor.seconds() + after)
        else:
            self._drop(interest.channel)

    def _drop(self, channel: str) -> None:
        self._stop_timer(self._by_channel.pop(channel))
        self._lingering.clear(channel)
        self._unsubscribe(channel)
