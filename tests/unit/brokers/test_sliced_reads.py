"""What is read in one go is processed in pieces, in order, and nothing is read meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from cyclone_sse.brokers.sliced_reads import READ_AT_ONCE, SlicedReads
from tests.unit.fakes import TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


@pytest.fixture
def transport() -> Any:
    return StringTransport()


def test_a_small_read_is_processed_at_once(clock: TurnClock, transport: Any) -> None:
    got: list[bytes] = []
    reads = SlicedReads(got.append, clock)
    reads.read(b"x" * READ_AT_ONCE, transport)
    reads.read(b"y", transport)
    assert (got, clock.getDelayedCalls()) == ([b"x" * READ_AT_ONCE, b"y"], [])


def test_a_large_read_is_processed_over_several_turns(clock: TurnClock, transport: Any) -> None:
    got: list[bytes] = []
    reads = SlicedReads(got.append, clock)
    data = bytes(range(256)) * (3 * READ_AT_ONCE // 256) + b"end"
    reads.read(data, transport)
    reads.read(b" and more", transport)
    for n in range(1, 4):
        assert (len(got), transport.producerState) == (n, "paused")
        clock.turn()
    assert (b"".join(got), transport.producerState) == (data + b" and more", "producing")
    reads.read(b"x", transport)
    assert got[-1] == b"x"


def test_the_rest_of_a_lost_connection_is_dropped(clock: TurnClock, transport: Any) -> None:
    got: list[bytes] = []
    reads = SlicedReads(got.append, clock)
    reads.read(b"x" * 3 * READ_AT_ONCE, transport)
    reads.stop()
    clock.pump([0] * 5)
    assert b"".join(got) == b"x" * READ_AT_ONCE
