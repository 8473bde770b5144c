"""The log is read once in each turn, and those that wait take turns."""

from __future__ import annotations

from collections.abc import Iterator

from cyclone_sse.delivery.log_turns import LogTurns
from tests.unit.fakes import TurnClock


def test_the_log_is_read_at_once_only_once_in_a_turn() -> None:
    clock = TurnClock()
    turns = LogTurns(clock)
    assert turns.acquire()
    assert not turns.acquire()
    clock.turn()
    assert turns.acquire()


def test_none_reads_at_once_while_others_wait_and_these_take_turns() -> None:
    clock = TurnClock()
    turns = LogTurns(clock)
    read: list[str] = []

    def reading(name: str) -> Iterator[None]:
        for _ in range(2):
            read.append(name)
            yield

    for name in "ab":
        turns.add(reading(name))
    for _ in range(4):
        assert not turns.acquire()
        clock.turn()
    assert read == ["a", "b", "a", "b"]
