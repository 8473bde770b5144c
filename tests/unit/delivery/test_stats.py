"""How many clients each channel has, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.delivery import stats
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.stats import MAX_AGE, ROWS_AT_ONCE, TABLES_AT_ONCE, StatsTable
from tests.unit.fakes import TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def channels(count: int) -> Channels[Any]:
    made: Channels[Any] = Channels()
    for number in range(count):
        made.add(Listener(), [f"c{number}"])
    return made


class Listener:
    """A subscriber, as far as channels know it."""

    channels: tuple[str, ...] = ()


def taken(table: bytes | Deferred[bytes], clock: TurnClock) -> tuple[Any, int]:
    """The rows, and after how many turns they came."""
    if isinstance(table, bytes):
        return json.loads(table), 0
    turns = 0
    while not table.called:
        clock.turn()
        turns += 1
    result: Any = table.result
    return json.loads(result), turns


def test_a_small_table_is_made_at_once_and_is_of_this_moment(clock: TurnClock) -> None:
    listening = channels(2)
    table = StatsTable(listening, clock)
    assert taken(table.table(), clock) == ([["c0", 1], ["c1", 1]], 0)
    listening.add(Listener(), ["c0"])
    assert taken(table.table(), clock) == ([["c0", 2], ["c1", 1]], 0)


def test_a_large_table_is_made_in_turns_and_shared_for_a_second(clock: TurnClock) -> None:
    listening = channels(3 * ROWS_AT_ONCE)
    table = StatsTable(listening, clock)
    first, second = table.table(), table.table()
    rows, turns = taken(first, clock)
    assert turns >= 3
    assert len(rows) == 3 * ROWS_AT_ONCE
    assert taken(second, clock) == (rows, 1)
    listening.add(Listener(), ["c0"])
    assert taken(table.table(), clock) == (rows, 0)
    clock.advance(MAX_AGE)
    assert taken(table.table(), clock)[0][0] == ["c0", 2]


def test_a_large_table_is_sent_to_many_clients_in_several_turns(clock: TurnClock) -> None:
    table = StatsTable(channels(2 * ROWS_AT_ONCE), clock)
    first, *others = [table.table() for _ in range(1 + 2 * TABLES_AT_ONCE)]
    taken(first, clock)
    clock.turn()
    assert [isinstance(each, Deferred) and each.called for each in others].count(True) == TABLES_AT_ONCE
    clock.turn()
    assert all(isinstance(each, Deferred) and each.called for each in others)


def test_a_turn_sends_a_limited_number_of_bytes(clock: TurnClock, monkeypatch: pytest.MonkeyPatch) -> None:
    many = channels(2 * ROWS_AT_ONCE)
    monkeypatch.setattr(stats, "TABLE_BYTES_AT_ONCE", 2 * len(json.dumps(many.stats())))
    table = StatsTable(many, clock)
    first, *others = [table.table() for _ in range(5)]
    taken(first, clock)
    clock.turn()
    assert [isinstance(each, Deferred) and each.called for each in others] == [True, True, False, False]


def test_a_selection_is_made_in_turns(clock: TurnClock) -> None:
    table = StatsTable(channels(2 * ROWS_AT_ONCE), clock)
    rows, turns = taken(table.selection(["c1", "other"], ("c399", "x")), clock)
    assert turns >= 2
    assert [name for name, _ in rows] == ["c1", "c399", *[f"c{number}" for number in range(3990, 4000)]]
    assert taken(table.selection(["c7", "other", "c7"], ()), clock) == ([["c7", 1]], 0)
