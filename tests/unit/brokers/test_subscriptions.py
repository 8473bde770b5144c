"""One record for each subscription: its clients, those that wait for it, and when it is given up."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.brokers.subscriptions import GRACE, MAX_IDLE, SUBSCRIBE_WAIT, Phase, Subscriptions
from cyclone_sse.slices import Slices
from tests.unit.fakes import TurnClock


class Upstream:
    """Remembers what was asked for."""

    def __init__(self, linger: float = 0.0) -> None:
        self.clock = TurnClock()
        self.held: list[str] = []
        self.returned: list[str] = []
        self.subscriptions = Subscriptions(
            linger, self.held.append, self.returned.append, Slices(self.clock), self.clock
        )

    def run(self) -> int:
        """Give the reactor turns until no work is left; returns how many that were."""
        turns = 0
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.turn()
            turns += 1
        return turns

    def wait(self, *channels: str) -> list[Any]:
        """A client that connects; its fate, which is None when it may be subscribed."""
        fate: list[Any] = []
        waiting = self.subscriptions.ready(channels)
        if waiting is None:
            return [None]
        waiting.addCallbacks(fate.append, lambda failure: fate.append(failure.value))
        return fate


def test_there_is_one_timer_for_a_channel_however_many_wait() -> None:
    upstream = Upstream()
    fates = [upstream.wait("a", "b") for _ in range(100)]
    assert len(upstream.clock.getDelayedCalls()) == 2
    upstream.subscriptions.confirm("a")
    assert len(upstream.clock.getDelayedCalls()) == 1
    assert fates == [[]] * 100
    upstream.clock.advance(SUBSCRIBE_WAIT)
    assert fates == [[None]] * 100
    assert upstream.held == ["a", "b"]


def test_clients_do_not_wait_for_a_channel_that_is_late() -> None:
    upstream = Upstream()
    upstream.wait("a")
    upstream.clock.advance(SUBSCRIBE_WAIT)
    upstream.subscriptions.occupy(["a"])
    assert upstream.wait("a") == [None]
    assert upstream.subscriptions.is_late("a")
    fate = upstream.wait("a", "b")
    upstream.subscriptions.confirm("a")  # it does not stand for b
    assert fate == []
    upstream.subscriptions.confirm("b")
    assert fate == [None]


def test_what_was_answered_while_the_process_stood_still_is_in_time() -> None:
    upstream = Upstream()
    fate = upstream.wait("a")
    upstream.clock.rightNow += 2 * SUBSCRIBE_WAIT
    upstream.clock.turn()  # a reactor calls what is due before it reads what has arrived
    assert (fate, upstream.subscriptions.is_late("a")) == ([], False)
    upstream.subscriptions.confirm("a")
    assert fate == [None]
    assert upstream.run() == 0


def test_a_channel_whose_client_did_not_wait_is_late() -> None:
    upstream = Upstream()
    upstream.subscriptions.occupy(["a"])
    assert upstream.subscriptions.is_late("a")


def test_a_refusal_reaches_all_clients_that_wait() -> None:
    upstream = Upstream()
    error = ValueError("no")
    both, other = upstream.wait("a", "b"), upstream.wait("b")
    upstream.subscriptions.refuse("a", error)
    assert (both, other) == ([error], [])
    upstream.subscriptions.confirm("b")
    assert other == [None]
    assert upstream.returned == ["b"]  # the clients that waited have not come, and nothing lingers
    upstream.subscriptions.refuse("never", error)


def test_a_refusal_that_comes_at_once_is_no_endless_wait() -> None:
    upstream = Upstream()
    error = ValueError("no")

    def refuse(channel: str) -> None:
        subscriptions.refuse(channel, error)

    subscriptions = Subscriptions(
        0.0, refuse, upstream.returned.append, Slices(upstream.clock), upstream.clock
    )
    waiting = subscriptions.ready(["a"])
    assert waiting is not None
    failed: list[Any] = []
    waiting.addErrback(lambda failure: failed.append(failure.value))
    assert failed == [error]
    assert subscriptions.get("a") is None
    assert not upstream.clock.getDelayedCalls()


@pytest.mark.parametrize("linger", [0.0, 60.0])
def test_many_that_leave_cost_no_look_at_those_that_stay(linger: float) -> None:
    upstream = Upstream(linger)
    names = [f"c{n}" for n in range(20_000)]
    upstream.subscriptions.occupy(names)
    for name in names:
        upstream.subscriptions.confirm(name)
    upstream.subscriptions.vacate(names[:10_000])
    upstream.clock.advance(linger + 1)
    upstream.subscriptions.expire()
    upstream.run()
    assert sorted(upstream.returned) == sorted(names[:10_000])
    assert {each.channel for each in upstream.subscriptions} == set(names[10_000:])
    assert all(each.phase is Phase.CONFIRMED for each in upstream.subscriptions)


def test_many_that_wait_are_released_in_slices_and_in_order() -> None:
    upstream = Upstream()
    fates = [upstream.wait("a") for _ in range(1000)]
    upstream.subscriptions.confirm("a")
    assert sum(map(len, fates)) == 0
    upstream.clock.turn()
    released = sum(map(len, fates))
    assert 0 < released <= 100
    assert fates[:released] == [[None]] * released
    upstream.run()
    assert fates == [[None]] * 1000


def test_many_that_fall_due_together_are_given_up_in_slices() -> None:
    upstream = Upstream(60.0)
    names = [f"c{n}" for n in range(5000)]
    upstream.subscriptions.occupy(names)
    upstream.subscriptions.vacate(names)
    upstream.clock.advance(61)
    upstream.subscriptions.expire()
    upstream.subscriptions.expire()  # the timer does not wait for the work to end
    most = 0
    while len(upstream.returned) < len(names):
        before = len(upstream.returned)
        upstream.clock.turn()
        most = max(most, len(upstream.returned) - before)
    assert most <= 100
    assert upstream.returned == names


def test_only_channels_that_had_a_client_linger() -> None:
    upstream = Upstream(300.0)
    upstream.wait("used", "made up")
    for name in ("used", "made up"):
        upstream.subscriptions.confirm(name)
    upstream.subscriptions.occupy(["used"])
    upstream.subscriptions.vacate(["used"])
    upstream.wait("made up, too")
    upstream.subscriptions.confirm("made up, too")
    upstream.clock.advance(GRACE)
    upstream.subscriptions.expire()
    upstream.run()
    assert upstream.returned == ["made up", "made up, too"]


def test_a_stream_of_made_up_names_does_not_keep_the_first_ones() -> None:
    upstream = Upstream(300.0)
    for n in range(20):
        upstream.wait(f"c{n}")
        upstream.subscriptions.confirm(f"c{n}")
        upstream.clock.advance(GRACE / 4)
        upstream.subscriptions.expire()
        upstream.run()
    assert len(upstream.subscriptions) <= 5


def test_idle_subscriptions_are_bounded_and_the_oldest_go_first() -> None:
    upstream = Upstream(300.0)
    names = [f"c{n}" for n in range(MAX_IDLE + 5)]
    upstream.subscriptions.occupy(names)
    upstream.subscriptions.vacate(names)
    assert upstream.returned == names[:5]
    assert upstream.subscriptions.idle == MAX_IDLE
    upstream.wait("made up")
    upstream.subscriptions.confirm("made up")
    assert upstream.returned[5:] == ["made up"]  # before those that have had clients
