"""The longest turn of the last minute."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from cyclone_sse.daemon.turn_watch import WATCH_INTERVAL, WINDOW, TurnWatch


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(clock: Clock, seconds: float) -> None:
    """Let time pass in short turns."""
    clock.pump([WATCH_INTERVAL] * round(seconds / WATCH_INTERVAL))


def test_a_long_turn_is_seen_for_a_minute(clock: Clock) -> None:
    watch = TurnWatch(clock)
    watch.start()
    run(clock, 5)
    assert watch.longest() == pytest.approx(0, abs=0.001)
    clock.advance(0.3)  # all calls of this time are late
    assert watch.longest() == pytest.approx(0.3, abs=2 * WATCH_INTERVAL)
    run(clock, WINDOW / 2)
    clock.advance(0.1)
    assert watch.longest() > 0.2
    run(clock, WINDOW / 2 + 2)
    assert watch.longest() < 0.2
    watch.stop()
    watch.stop()
    assert not clock.getDelayedCalls()


def test_a_very_long_turn_ends_in_one_figure(clock: Clock) -> None:
    watch = TurnWatch(clock)
    watch.start()
    clock.advance(1000)
    assert watch.longest() == pytest.approx(1000, abs=2 * WATCH_INTERVAL)
    watch.stop()
