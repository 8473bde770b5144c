"""Clients wait for entries that this server has not read yet, but not forever."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import TimeoutError

from cyclone_sse.brokers.redis_stream_arrivals import AHEAD_WAIT, RELEASED_AT_ONCE, Arrivals
from cyclone_sse.slices import Slices
from tests.unit.fakes import TurnClock


class Reading:
    """A server that reads, and clients that wait for it."""

    def __init__(self) -> None:
        self.clock = TurnClock()
        self.position = 0
        self.arrivals = Arrivals(lambda: self.position, Slices(self.clock), self.clock)
        self.done: list[Any] = []

    def wait_for(self, *positions: int) -> None:
        for position in positions:
            self.arrivals.wait_for(position).addBoth(self.done.append)

    def read_to(self, position: int) -> None:
        self.position = position
        self.arrivals.release()


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_a_client_is_released_when_its_position_was_read(reading: Reading) -> None:
    reading.wait_for(1, 3)
    reading.read_to(2)
    reading.clock.turn()
    assert (reading.done, len(reading.arrivals)) == ([None], 1)


def test_what_is_read_while_clients_are_released_counts(reading: Reading) -> None:
    reading.wait_for(*[1] * RELEASED_AT_ONCE, 2)
    reading.read_to(1)
    reading.clock.turn()
    assert len(reading.done) == RELEASED_AT_ONCE
    reading.read_to(2)
    reading.clock.turn()
    reading.clock.turn()
    assert len(reading.arrivals) == 0


def test_a_client_waits_for_a_limited_time(reading: Reading) -> None:
    reading.wait_for(1)
    reading.clock.advance(AHEAD_WAIT)
    assert reading.done[0].check(TimeoutError)
    assert len(reading.arrivals) == 0
    reading.read_to(1)
    assert len(reading.done) == 1
