"""The subscriptions that are needed upstream (Redis, RabbitMQ), and those that the upstream has confirmed.

One record for each subscription holds its whole state::

    REQUESTED --confirmed--> CONFIRMED
      |                      ^
      +--not in time--> LATE-+    (clients are subscribed already: they receive a gap then)

    refused: the record is removed, and the clients that wait are refused

A subscription is kept for a while after its channel's last client has left (``linger``), so that a page that
reloads, or a client whose connection broke, finds the events of the meantime in the history. Only channels
that have had a client linger, and only a limited number of them, since clients choose the names. A client
that connects waits until the upstream has confirmed, so that an open stream receives all messages. All
subscriptions that a waiting client will need are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from cyclone_sse.deadlines import grain_for
from cyclone_sse.slices import Slices, each

SUBSCRIBE_WAIT = 2.0  # seconds a client waits for the upstream before it is subscribed anyway
GRACE = 1.0  # seconds for a client to be subscribed after it was found that all is ready
MAX_IDLE = 10_000  # subscriptions without clients; the oldest go first
_SLICE = 100  # waiting clients, or subscriptions, that are worked on in one turn


class Phase(Enum):
    """The phase of a subscription, as drawn above."""

    REQUESTED = "requested"
    LATE = "late"
    CONFIRMED = "confirmed"


class Subscription:
    """One subscription.

    occupied: it has clients; was_occupied: it has had some. waiting: clients that are about to be subscribed.
    link: the connection on which it was requested last. refusal: why it was refused.
    """

    __slots__ = ("channel", "link", "occupied", "phase", "refusal", "timer", "waiting", "was_occupied")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.phase = Phase.REQUESTED
        self.occupied = False
        self.was_occupied = False
        self.waiting: dict[Waiter, None] = {}
        self.timer: IDelayedCall | None = None
        self.link: object = None
        self.refusal: Exception | None = None


class Waiter:
    """One client that waits for its subscriptions to be confirmed.

    subscriptions: all that it needs. done: fires when none of them is missing.
    """

    __slots__ = ("_missing", "done", "subscriptions")

    def __init__(self, subscriptions: Sequence[Subscription], missing: int) -> None:
        self.subscriptions = subscriptions
        self._missing = missing
        self.done: Deferred[None] = Deferred()

    def count_down(self) -> bool:
        """Note that a missing subscription is confirmed, or late. Returns whether it was the last one."""
        self._missing -= 1
        if self._missing:
            return False
        self.done.callback(None)
        return True

    def fail(self, error: Exception) -> None:
        """Note that a subscription is refused, and so the client too."""
        if self._missing:
            self._missing = 0
            self.done.errback(error)


class Subscriptions:
    """All subscriptions of a broker.

    linger: seconds that one outlives its last client. subscribe, unsubscribe: called with a channel.
    """

    def __init__(
        self,
        linger: float,
        subscribe: Callable[[str], None],
        unsubscribe: Callable[[str], None],
        slices: Slices,
        reactor: IReactorTime,
    ) -> None:
        self._linger = linger
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._slices = slices
        self._reactor = reactor
        self._by_channel: dict[str, Subscription] = {}
        # Channels without clients, and when each is given up, in this order: those that have had clients,
        # and those that have not.
        self._lingering: OrderedDict[str, float] = OrderedDict()
        self._unused: OrderedDict[str, float] = OrderedDict()
        self._expiring = False
        self._ticking = LoopingCall(self.expire)
        self._ticking.clock = reactor

    def start(self) -> None:
        """Start ending subscriptions whose time is over."""
        self._ticking.start(grain_for(self._linger), now=False)

    def stop(self) -> None:
        """Stop ending subscriptions."""
        if self._ticking.running:
            self._ticking.stop()

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_channel.values())

    def __len__(self) -> int:
        return len(self._by_channel)

    @property
    def idle(self) -> int:
        """The number of subscriptions without clients."""
        return len(self._lingering) + len(self._unused)

    def get(self, channel: str) -> Subscription | None:
        """The record of a channel, if there is one."""
        return self._by_channel.get(channel)

    def ready(self, channels: Iterable[str]) -> Deferred[None] | None:
        """Subscribe upstream to those of these channels that are not subscribed to.

        None when all these are confirmed; else a Deferred that fires when they are, at the latest after
        SUBSCRIBE_WAIT seconds, and fails when one is refused.
        """
        needed = [self._needed(channel) for channel in channels]
        refusals = [each.refusal for each in needed if each.refusal is not None]
        missing = sum(each.phase is Phase.REQUESTED for each in needed)
        if refusals or not missing:
            for subscription in needed:
                if not subscription.occupied and not subscription.waiting:
                    self._set_idle(subscription, max(self._linger_of(subscription), GRACE))
            return fail(refusals[0]) if refusals else None
        waiter = Waiter(needed, missing)
        for subscription in needed:
            subscription.waiting[waiter] = None
        return waiter.done

    def occupy(self, channels: Iterable[str]) -> None:
        """Note that these channels have their first clients."""
        for channel in channels:
            subscription = self._needed(channel)
            subscription.occupied = subscription.was_occupied = True
            if subscription.phase is Phase.REQUESTED:  # the client did not wait
                self._set_late(subscription)

    def vacate(self, channels: Iterable[str]) -> None:
        """Note that the last clients of these channels have left."""
        for channel in channels:
            subscription = self._by_channel.get(channel)
            if subscription is not None:
                subscription.occupied = False
                if not subscription.waiting:
                    self._set_idle(subscription, self._linger)

    def is_late(self, channel: str) -> bool:
        """Whether clients were subscribed before the upstream had confirmed."""
        subscription = self._by_channel.get(channel)
        return subscription is not None and subscription.phase is Phase.LATE

    def confirm(self, channel: str) -> None:
        """Note that the upstream has the subscription, and release the clients that wait for it."""
        subscription = self._by_channel.get(channel)
        if subscription is not None:
            requested = subscription.phase is Phase.REQUESTED
            subscription.phase = Phase.CONFIRMED
            if requested:  # else those that wait do so for another channel
                self._release_waiting(subscription)

    def refuse(self, channel: str, error: Exception) -> None:
        """Remove what the upstream does not allow; clients that wait for it fail with this error."""
        subscription = self._by_channel.pop(channel, None)
        if subscription is None:
            return
        subscription.refusal = error
        self._clear_idle(channel)
        self._stop_timer(subscription)

        def fail_waiter(waiter: Waiter) -> None:
            waiter.fail(error)
            self._remove_waiter(waiter)

        self._for_each(list(subscription.waiting), fail_waiter)

    def expire(self) -> None:
        """End the subscriptions whose time is over, in slices."""
        if not self._expiring and self._next_due() is not None:
            self._expiring = True
            self._slices.add(self._expire())

    def _expire(self) -> Iterator[None]:
        count = 0
        while (channel := self._next_due()) is not None:
            self._remove(channel)
            count += 1
            if not count % _SLICE:
                yield
        self._expiring = False

    def _next_due(self) -> str | None:
        """A channel whose time is over, if there is one."""
        now = self._reactor.seconds()
        for idle in (self._unused, self._lingering):
            channel = next(iter(idle), None)
            if channel is not None and idle[channel] <= now:
                return channel
        return None

    def _clear_idle(self, channel: str) -> None:
        self._lingering.pop(channel, None)
        self._unused.pop(channel, None)

    def _needed(self, channel: str) -> Subscription:
        subscription = self._by_channel.get(channel)
        if subscription is None:
            subscription = self._by_channel[channel] = Subscription(channel)
            subscription.timer = self._reactor.callLater(SUBSCRIBE_WAIT, self._wait_one_turn, subscription)
            self._subscribe(channel)
        else:
            self._clear_idle(channel)
        return subscription

    def _wait_one_turn(self, subscription: Subscription) -> None:
        # Without this, a process that stood still would find its clients late before it has read the answers
        # that arrived meanwhile, and send them a gap for nothing: timers come before sockets.
        subscription.timer = self._reactor.callLater(0, self._set_late, subscription)

    def _set_late(self, subscription: Subscription) -> None:
        subscription.phase = Phase.LATE
        self._release_waiting(subscription)

    def _release_waiting(self, subscription: Subscription) -> None:
        self._stop_timer(subscription)

        def release(waiter: Waiter) -> None:
            if waiter.count_down():
                self._remove_waiter(waiter)

        self._for_each(list(subscription.waiting), release)

    def _for_each(self, waiters: Sequence[Waiter], step: Callable[[Waiter], None]) -> None:
        """Call step with each waiter: in this turn if they are few, so that a single client need not wait for
        another turn; otherwise in slices.
        """
        if len(waiters) <= _SLICE:
            for waiter in waiters:
                step(waiter)
        else:
            self._slices.add(each(waiters, step, _SLICE))

    def _remove_waiter(self, waiter: Waiter) -> None:
        """Remove a waiter that is done. Its client will occupy the channels, or has left."""
        for subscription in waiter.subscriptions:
            subscription.waiting.pop(waiter, None)
            if not subscription.occupied and not subscription.waiting:
                self._set_idle(subscription, self._linger_of(subscription))

    def _linger_of(self, subscription: Subscription) -> float:
        """The linger of a subscription: short if it had no client yet, since clients can invent names."""
        return self._linger if subscription.was_occupied else min(self._linger, GRACE)

    def _stop_timer(self, subscription: Subscription) -> None:
        if subscription.timer is not None:
            if subscription.timer.active():
                subscription.timer.cancel()
            subscription.timer = None

    def _set_idle(self, subscription: Subscription, seconds: float) -> None:
        channel = subscription.channel
        if self._by_channel.get(channel) is not subscription:
            return
        if not seconds:
            self._remove(channel)
            return
        self._clear_idle(channel)
        idle = self._lingering if subscription.was_occupied else self._unused
        idle[channel] = self._reactor.seconds() + seconds
        if self.idle > MAX_IDLE:
            self._remove(next(iter(self._unused or self._lingering)))

    def _remove(self, channel: str) -> None:
        self._stop_timer(self._by_channel.pop(channel))
        self._clear_idle(channel)
        self._unsubscribe(channel)
