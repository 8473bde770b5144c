"""Whose streams are open."""

from __future__ import annotations

from typing import Any

from cyclone_sse.daemon.streams import Streams
from tests.unit.delivery.clients import Recorder, make_hub
from tests.unit.fakes import TurnClock


def test_a_walk_over_all_streams_takes_several_turns() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    for number in range(10_000):
        client = Recorder()
        client.user = str(number % 2)
        hub.subscribe(client, ["a"])
    found: list[Any] = []
    Streams(hub, clock, clock=lambda: 1000.0).find("1", None).addCallback(found.append)
    walked = 0
    while not found:
        clock.turn()
        walked += 1
    assert walked >= 5
    assert found[0]["total"] == 5000


def test_since_is_when_the_stream_opened() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    hub.subscribe(Recorder(), ["a"])
    clock.advance(5)
    found: list[Any] = []
    Streams(hub, clock, clock=lambda: 1000.0).find(None, "a").addCallback(found.append)
    clock.turn()
    assert found[0]["streams"][0]["since"] == 995
