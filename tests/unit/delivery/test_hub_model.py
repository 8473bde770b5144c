"""All kinds of clients at once: each receives the events of its channels once and in order, or a gap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cyclone_sse import slices
from cyclone_sse.delivery import channel_reader, history, log_reader, publishing, rising_floors, states, turn
from tests.unit.delivery.clients import turns
from tests.unit.delivery.hub_model import HubModel


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Let everything take many turns."""
    small = [
        (turn, "PAIRS"),
        (channel_reader, "BATCH_EVENTS"),
        (log_reader, "BATCH_EVENTS"),
        (log_reader, "NAMES"),
        (publishing, "EVENTS_PER_TURN"),
    ]
    small += [(module, "MANY") for module in (history, slices, publishing)]
    small += [(states, "STATES_AT_ONCE"), (rising_floors, "FLOORS_AT_ONCE")]
    with pytest.MonkeyPatch.context() as patch:
        for module, name in small:
            patch.setattr(module, name, 3)
        for module in (channel_reader, log_reader):
            patch.setattr(module, "BATCH_BYTES", 600)
        yield


def check(seed: int, failures: list[Any]) -> None:
    model = HubModel(seed)
    model.play(150)
    assert not failures, seed
    assert list(model.faults()) == [], seed
    for listener in model.listeners:
        if listener.client is not None:
            listener.client.lost()
            model.hub.unsubscribe(listener.client)
    for _ in range(4):
        model.clock.advance(1e6)
        turns(model.clock, 10_000)
    figures = model.hub.history.figures()
    left = len(model.hub.clients), len(model.hub.channels), len(model.hub._resume._catch_ups)
    assert (*left, figures.events, figures.channels, figures.bytes) == (0,) * 6, seed


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_each_client_receives_each_event_once_in_order_or_a_gap(first: int, failures: list[Any]) -> None:
    for seed in range(first, first + 10):
        check(seed, failures)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_each_client_receives_each_event_once_in_order_or_a_gap_whatever_happens(
    first: int, failures: list[Any]
) -> None:
    for seed in range(first, first + 100):
        check(seed, failures)
