"""The Graphite export: names that are names, datagrams that fit."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.periodic import CHANNELS_AT_ONCE, DATAGRAM, GraphiteExport, path_part
from tests.unit.fakes import FakeClient, TurnClock


def export(*channels: str, **settings: Any) -> list[bytes]:
    broker = HttpBroker({}, reactor=TurnClock())
    for channel in channels:
        FakeClient(broker).listen(channel)
    exporter = GraphiteExport(broker, settings, reactor=TurnClock())
    exporter.clock = lambda: 1234.5
    return exporter.prepare()


def test_a_line_for_each_channel() -> None:
    assert export("a", "a", "b") == [b"cyclone-sse.a 2 1234\ncyclone-sse.b 1 1234\n"]
    assert export("a", **{"export-path": "web.sse"}) == [b"web.sse.a 1 1234\n"]
    assert export() == []


def test_names_become_parts_of_a_path() -> None:
    assert path_part("news.sport/today *") == "news_sport_today__"
    assert path_part("é") == "_"
    assert len(path_part("x" * 1000)) == 200
    assert export("a.b", "a b") == [b"cyclone-sse.a_b 2 1234\n"]


def test_many_channels_are_split_between_lines() -> None:
    datagrams = export(*[f"channel-{number}" for number in range(1000)])
    assert len(datagrams) > 1
    assert all(len(datagram) <= DATAGRAM and datagram.endswith(b"\n") for datagram in datagrams)
    lines = b"".join(datagrams).splitlines()
    assert sorted(lines) == sorted(b"cyclone-sse.channel-%d 1 1234" % number for number in range(1000))


def test_the_totals_of_the_server_when_they_are_wanted() -> None:
    lines = export("a", "a", "b", **{"export-totals": True})[0].splitlines()
    assert lines[:2] == [b"cyclone-sse.a 2 1234", b"cyclone-sse.b 1 1234"]
    assert b"cyclone-sse.total.subscribers 3 1234" in lines
    assert b"cyclone-sse.total.subscribes 3 1234" in lines
    assert b"cyclone-sse.total.events 0 1234" in lines
    assert b"cyclone-sse.total.channels 2 1234" in lines


def test_very_many_channels_are_counted_over_several_turns() -> None:
    clock = TurnClock()
    broker = HttpBroker({}, reactor=clock)
    for start in range(0, 10_000, 100):
        FakeClient(broker).listen(*[f"c{number}" for number in range(start, start + 100)])
    exporter = GraphiteExport(broker, {}, reactor=clock)
    exporter.clock = lambda: 1234.5
    made = exporter.prepare_in_turns()
    assert isinstance(made, Deferred), "not in one turn"
    found: list[list[bytes]] = []
    made.addCallback(found.append)
    turns = 0
    while not found:
        clock.turn()
        turns += 1
    assert turns >= 2 * 10_000 // CHANNELS_AT_ONCE - 1
    assert sorted(b"".join(found[0]).splitlines()) == sorted(b"".join(exporter.prepare()).splitlines())


def test_a_subclass_that_overrides_prepare_is_asked() -> None:
    class Own(GraphiteExport):
        """An application's own figures."""

        def prepare(self) -> list[bytes]:
            return [b"mine 1 2\n"]

    assert Own(HttpBroker({}, reactor=TurnClock()), {}, reactor=TurnClock()).prepare_in_turns() == [
        b"mine 1 2\n"
    ]
