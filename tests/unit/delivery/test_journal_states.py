"""What a history file keeps of states, and of what events say of themselves; and files of version 1."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cyclone_sse.errors import Unavailable
from tests.unit.delivery.clients import with_state
from tests.unit.delivery.journals import Server, connections, end

__all__ = ["connections", "end"]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path, history_ttl=100)


def states(server: Server, *channels: str) -> dict[str, str]:
    found = {name: server.broker.hub.states.get(name) for name in channels}
    return {name: event.message for name, event in found.items() if event is not None}


def test_states_are_there_after_a_restart_whatever_their_age(server: Server, end: Any) -> None:
    server.publish("ab", "old", keep=True)
    server.publish("b", "new", keep=True, ttl=0)
    before = server.broker.hub.states.get("b")
    server.clock.advance(200)
    server.turns()
    end(server)
    assert states(server, "a", "b", "c") == {"a": "old", "b": "new"}
    assert str(server.broker.hub.states.get("b").id) == str(before.id)  # type: ignore[union-attr]
    server.publish("b", "newer", keep=True)
    end(server)
    assert states(server, "a", "b") == {"a": "old", "b": "newer"}


def test_channels_share_a_state_also_after_a_restart(server: Server, end: Any) -> None:
    """Without this, --state-bytes would not bound it, and a client of both would learn of one."""
    server.publish("abc", "x" * 100_000, keep=True)
    server.publish("b", "y", keep=True)
    before = server.broker.hub.states.figures()
    end(server)
    states = server.broker.hub.states
    assert states.figures() == before
    assert states.get("a") is states.get("c")
    client = with_state(fields=True)
    server.broker.hub.subscribe(client, ["a", "b", "c"])
    assert [line for line in client.got[0].split(b"\n") if line.startswith(b"channel")] == [
        *(b"channel: a", b"channel: c"),
        b"channel: b",
    ]


def test_a_channel_that_was_cleared_stays_so(server: Server, end: Any) -> None:
    first = server.listen("ab").position
    server.publish("ab", "both", keep=True)
    server.broker.hub.publishing.clear(["a"])
    server.turns()
    end(server)
    assert states(server, "a", "b") == {"b": "both"}
    assert server.heard("a", first) == ([], True)
    assert server.heard("b", first) == (["both"], False)
    server.publish("a", "after")
    assert server.heard("a", first) == (["after"], True)


@pytest.mark.parametrize("full", [False, True])
def test_the_answer_to_an_order_to_clear_waits_for_the_disk(server: Server, full: bool) -> None:
    server.publish("a", "old", keep=True)
    server.disk.held = True
    answers: list[Any] = []
    server.broker.control({"clear": {"channel": ["a"]}, "end": {"channel": ["b"]}}).addBoth(answers.append)
    server.turns()
    assert not answers
    server.disk.full = full
    server.disk.release()
    server.turns()
    (answer,) = answers
    assert answer == 0 if not full else answer.check(Unavailable)
    server.crash()
    server.start()
    assert states(server, "a") == ({"a": "old"} if full else {})


def test_what_an_event_says_of_itself_survives(server: Server, end: Any) -> None:
    first = server.listen("a").position
    server.publish("a", "short", ttl=20)
    server.publish("a", "mine", excluded="tab-1")
    end(server)
    assert server.heard("a", first) == (["short", "mine"], False)
    server.clock.advance(21)
    assert server.heard("a", first) == (["mine"], False)
    events = list(server.broker.hub.history.log_after(0))
    assert [event.excluded for event in events] == ["tab-1"]


def test_a_file_of_version_1_is_taken_over(tmp_path: Path) -> None:
    server = Server(tmp_path)
    first = server.listen("a").position
    server.publish("a", "old")
    server.stop()
    db = sqlite3.connect(server.path)
    db.executescript(
        "ALTER TABLE event DROP COLUMN ttl; ALTER TABLE event DROP COLUMN excluded;"
        "DROP TABLE state; DROP TABLE published; PRAGMA user_version = 1"
    )
    db.close()
    server.start()
    assert server.heard("a", first) == (["old"], False)
    server.publish("a", "new", keep=True)
    server.stop()
    server.start()
    assert server.heard("a", first) == (["old", "new"], False)
    assert states(server, "a") == {"a": "new"}
