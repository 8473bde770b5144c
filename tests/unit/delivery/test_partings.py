"""Who is ended by an order, also one that comes while they are let in. `test_hub.py` has the rest."""

from __future__ import annotations

import pytest

from cyclone_sse.delivery import partings as module
from cyclone_sse.delivery.partings import Partings
from cyclone_sse.errors import Ending
from tests.unit.delivery.clients import Recorder, hub, turns
from tests.unit.fakes import TurnClock


@pytest.mark.parametrize(
    ("channels", "user", "ended"),
    [(["a"], None, True), (["b"], None, False), (None, "1", True), (None, "2", False), (None, None, True)],
)
def test_an_order_reaches_who_was_being_let_in(
    channels: list[str] | None, user: str | None, ended: bool
) -> None:
    clock = TurnClock()
    door = hub(clock)
    door.end(Ending.ENDED)
    since = door.orders
    door.end(Ending.ENDED, channels, user)
    client = Recorder()
    client.user = "1"
    door.subscribe(client, ["a"])
    door.end_late(client, since)
    turns(clock)
    assert (client.ending is Ending.ENDED) == ended


def test_an_order_from_before_is_none_of_its_business() -> None:
    clock = TurnClock()
    door = hub(clock)
    door.end(Ending.ENDED, ["a"])
    client = Recorder()
    door.subscribe(client, ["a"])
    door.end_late(client, door.orders)
    turns(clock)
    assert client.ending is None


def test_when_orders_are_forgotten_it_is_checked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    clock = TurnClock()
    door = hub(clock)
    partings = Partings(door._fanout, door._lifetimes, clock)
    client = Recorder()
    door.subscribe(client, ["a"])
    for _ in range(2):
        partings.remember({"b"}, None)
    assert not partings.concern(client, 0)
    partings.remember({"b"}, None)
    assert partings.concern(client, 0)
