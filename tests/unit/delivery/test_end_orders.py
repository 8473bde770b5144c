"""Clients that are being authorised when an order to end streams comes. `test_hub.py` has the rest."""

from __future__ import annotations

import pytest

from cyclone_sse.delivery import end_orders as module
from cyclone_sse.delivery.end_orders import EndOrders
from cyclone_sse.errors import Ending
from tests.unit.delivery.clients import Recorder, make_hub, turns
from tests.unit.fakes import TurnClock


@pytest.mark.parametrize(
    ("channels", "user", "ended"),
    [(["a"], None, True), (["b"], None, False), (None, "1", True), (None, "2", False), (None, None, True)],
)
def test_an_order_ends_a_client_that_was_being_authorised(
    channels: list[str] | None, user: str | None, ended: bool
) -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    hub.end(Ending.ENDED)
    since = hub.end_orders.count
    hub.end(Ending.ENDED, channels, user)
    client = Recorder()
    client.user = "1"
    hub.subscribe(client, ["a"])
    hub.end_if_ordered(client, since)
    turns(clock)
    assert (client.ending is Ending.ENDED) == ended


def test_an_earlier_order_does_not_concern_a_client() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    hub.end(Ending.ENDED, ["a"])
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.end_if_ordered(client, hub.end_orders.count)
    turns(clock)
    assert client.ending is None


def test_a_client_that_is_older_than_the_remembered_orders_counts_as_ordered_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ORDERS", 2)
    orders = EndOrders(TurnClock())
    client = Recorder()
    client.channels = ("a",)
    for _ in range(2):
        orders.add({"b"}, None)
    assert not orders.concern(client, 0)
    orders.add({"b"}, None)
    assert orders.concern(client, 0)
    assert not orders.concern(client, 1)


def test_orders_are_forgotten_after_a_minute() -> None:
    clock = TurnClock()
    orders = EndOrders(clock)
    orders.add({"a"}, None)
    clock.advance(module.REMEMBERED)
    orders.forget_old()
    assert len(orders) == 0
    assert orders.count == 1


def test_remembered_orders_hold_a_bounded_number_of_names() -> None:
    orders = EndOrders(TurnClock())
    for number in range(10):
        orders.add({f"{number}-{n}" for n in range(module.MAX_NAMES // 4)}, None)
    assert len(orders) == 4
