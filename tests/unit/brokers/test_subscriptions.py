"""One record for each subscription: who holds it, who waits for it, and when it is given back."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers.subscriptions import SUBSCRIBE_WAIT, Phase, Subscriptions


class Upstream:
    """Remembers what was asked for."""

    def __init__(self, linger: float = 0.0) -> None:
        self.clock = Clock()
        self.held: list[str] = []
        self.returned: list[str] = []
        self.interests = Subscriptions(linger, self.held.append, self.returned.append, self.clock)

    def wait(self, *channels: str) -> list[Any]:
        """A client that comes; its fate, which is None when it is let in."""
        fate: list[Any] = []
        waiting = self.interests.ready(channels)
        if waiting is None:
            return [None]
        waiting.addCallbacks(fate.append, lambda failure: fate.append(failure.value))
        return fate


def test_there_is_one_timer_for_a_channel_however_many_wait() -> None:
    upstream = Upstream()
    fates = [upstream.wait("a", "b") for _ in range(100)]
    assert len(upstream.clock.getDelayedCalls()) == 2
    upstream.interests.confirm("a")
    assert len(upstream.clock.getDelayedCalls()) == 1
    assert fates == [[]] * 100
    upstream.clock.advance(SUBSCRIBE_WAIT)
    assert fates == [[None]] * 100
    assert upstream.held == ["a", "b"]


def test_a_channel_that_is_late_keeps_nobody_waiting() -> None:
    upstream = Upstream()
    upstream.wait("a")
    upstream.clock.advance(SUBSCRIBE_WAIT)
    upstream.interests.keep(["a"])
    assert upstream.wait("a") == [None]
    assert upstream.interests.is_late("a")
    fate = upstream.wait("a", "b")
    upstream.interests.confirm("a")  # it does not stand for b
    assert fate == []
    upstream.interests.confirm("b")
    assert fate == [None]


def test_one_that_did_not_wait_is_told_later() -> None:
    upstream = Upstream()
    upstream.interests.keep(["a"])
    assert upstream.interests.is_late("a")


def test_a_refusal_is_everybodys_who_waits_for_it() -> None:
    upstream = Upstream()
    error = ValueError("no")
    both, other = upstream.wait("a", "b"), upstream.wait("b")
    upstream.interests.refuse("a", error)
    assert (both, other) == ([error], [])
    upstream.interests.confirm("b")
    assert other == [None]
    assert upstream.returned == ["b"]  # whoever waited for it has not come, and nothing lingers
    upstream.interests.refuse("never", error)


def test_a_refusal_that_comes_at_once_is_no_endless_wait() -> None:
    upstream = Upstream()
    error = ValueError("no")

    def refuse(channel: str) -> None:
        interests.refuse(channel, error)

    interests = Subscriptions(0.0, refuse, upstream.returned.append, upstream.clock)
    waiting = interests.ready(["a"])
    assert waiting is not None
    failed: list[Any] = []
    waiting.addErrback(lambda failure: failed.append(failure.value))
    assert failed == [error]
    assert interests.get("a") is None
    assert not upstream.clock.getDelayedCalls()


@pytest.mark.parametrize("linger", [0.0, 60.0])
def test_many_that_leave_cost_no_look_at_those_that_stay(linger: float) -> None:
    upstream = Upstream(linger)
    names = [f"c{n}" for n in range(20_000)]
    upstream.interests.keep(names)
    for name in names:
        upstream.interests.confirm(name)
    upstream.interests.release(names[:10_000])
    upstream.clock.advance(linger + 1)
    upstream.interests.unsubscribe_expired()
    assert sorted(upstream.returned) == sorted(names[:10_000])
    assert {interest.channel for interest in upstream.interests} == set(names[10_000:])
    assert all(interest.phase is Phase.CONFIRMED for interest in upstream.interests)
