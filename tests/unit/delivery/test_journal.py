"""A history that outlives its process: what a restart restores."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.journal import FORGET_AFTER, FORGET_AT, RESERVE
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Unavailable
from tests.unit.delivery.journals import Server, connections, end, server

__all__ = ["connections", "end", "server"]


def test_what_was_published_is_there_after_a_restart(server: Server, end: Any) -> None:
    client = server.listen("ab")
    server.publish("a", "one\ntwo", type="greeting", retry=1234)
    server.publish("ab", "three")
    before = client.parse()
    end(server)
    again = server.listen("ab", client.position)
    assert again.parse() == before, "ids, types and texts"
    assert again._parser.retry == 1234
    assert server.heard("b", before[0].id) == (["three"], False)
    assert server.heard("c", before[0].id) == ([], False), "a channel never heard of is complete"


def test_ids_go_on_growing_under_the_same_tag(server: Server, end: Any) -> None:
    last = server.publish("a", "1")
    for _ in range(3):
        end(server)
        new = server.publish("a", "2")
        assert EventId.parse(new).seq > EventId.parse(last).seq  # type: ignore[union-attr]
        assert new.split("-")[2] == last.split("-")[2]
        last = new


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_ids_go_on_growing_when_the_clock_is_set_back(server: Server, end: str) -> None:
    server.publish("a", "before")
    server.clock.advance(30)
    marked = server.listen("a").position
    server.clock.advance(1)
    server.turns()
    getattr(server, end)()
    server.wall -= 3600
    server.start()
    assert server.heard("a", marked) == ([], False), "an id that was given out is known"
    server.publish("a", "later")
    assert server.heard("a", marked) == (["later"], False)


def test_after_crashes_ids_are_ahead_by_less_than_other_servers_tolerate(server: Server) -> None:
    last = EventId.parse(server.publish("a", "1"))
    for _ in range(5):
        server.clock.advance(0.1)
        server.crash()
        server.start()
        new = EventId.parse(server.publish("a", "2"))
        assert new is not None
        assert last is not None
        assert new.seq > last.seq
        assert new.ms - server.now() * 1000 <= RESERVE < 5000
        last = new


def test_an_idle_server_writes_nothing(server: Server) -> None:
    server.publish("a", "x")
    server.clock.advance(FORGET_AFTER)
    server.turns()
    server.disk.lots.clear()
    for _ in range(100):
        server.clock.advance(1)
        server.turns()
    assert not server.disk.lots


def test_ages_go_on_over_a_restart(server: Server, end: Any) -> None:
    first = server.listen("a").position
    server.publish("a", "old")
    server.clock.advance(200)
    server.publish("a", "young")
    end(server)
    server.clock.advance(99)
    assert server.heard("a", first) == (["old", "young"], False)
    server.clock.advance(2)
    assert server.heard("a", first) == (["young"], True)
    server.clock.advance(300)
    assert server.heard("a", first) == ([], True)


def test_nothing_is_too_old_because_the_clock_was_set_back(server: Server, tmp_path: Path) -> None:
    first = server.listen("a").position
    server.publish("a", "x")
    server.crash()
    server.wall -= 86400
    server.start()
    assert server.heard("a", first) == (["x"], False)
    server.clock.advance(301)
    assert server.heard("a", first) == ([], True), "and events still expire"


@pytest.mark.parametrize("seconds", [86400, -86400, 3])
def test_ages_go_on_over_a_restart_when_the_clock_was_set(server: Server, end: Any, seconds: float) -> None:
    first = server.listen("a").position
    ids = [server.publish("a", "old", idempotency_key="old")]
    server.clock.advance(200)
    server.clock_set += seconds
    ids.append(server.publish("a", "young", idempotency_key="young"))
    server.clock_set -= seconds
    server.clock.advance(1)
    server.turns()
    server.clock_set += seconds
    server.clock.advance(1)
    server.turns()
    end(server)
    server.clock.advance(97)
    assert server.heard("a", first) == (["old", "young"], False)
    assert [server.publish("a", text, idempotency_key=text) for text in ("old", "young")] == ids
    server.clock.advance(2)
    assert server.heard("a", first) == (["young"], True)
    assert server.publish("a", "old", idempotency_key="old") != ids[0]


def test_a_gap_is_told_only_to_whom_something_is_missing(tmp_path: Path, end: Any) -> None:
    server = Server(tmp_path, history_size=2)
    first = server.listen("ab").position
    server.publish("b", "quiet")
    ids = [server.publish("a", str(number)) for number in range(4)]
    server.clock.advance(FORGET_AFTER + 1)
    server.turns()
    for _ in range(2):
        end(server)
        assert server.heard("a", first) == (["2", "3"], True)
        assert server.heard("a", ids[0]) == (["2", "3"], True)
        assert server.heard("a", ids[1]) == (["2", "3"], False)
        assert server.heard("b", first) == (["quiet"], False)


def rows(path: Path) -> int:
    """The number of events in a file that no server has open."""
    db = sqlite3.connect(path)
    try:
        return int(db.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        db.close()


def test_what_the_memory_forgets_is_deleted(tmp_path: Path) -> None:
    server = Server(tmp_path, history_size=10)
    server.publish_all([publication("a", "x")] * (FORGET_AT + 10))
    server.turns()
    server.publish("a", "last")
    server.crash()
    assert rows(server.path) <= 11, "along with what is published"


def test_what_is_too_old_is_deleted(server: Server) -> None:
    server.publish("abc", "x")
    server.clock.advance(301)
    server.turns()
    server.clock.advance(1)
    server.turns()
    server.crash()
    assert rows(server.path) == 0


def test_smaller_bounds_hold_after_a_restart(tmp_path: Path, end: Any) -> None:
    server = Server(tmp_path)
    first = server.listen("a").position
    server.publish_all([publication(["a", "b"], "x" * 1000) for _ in range(50)])
    server.turns()
    server.settings = {"history-size": 20, "history-bytes": 10_000}
    end(server)
    assert server.broker.hub.history.bytes <= 10_000
    messages, told = server.heard("a", first)
    assert 0 < len(messages) < 10
    assert told
    server.clock.advance(FORGET_AFTER + 1)
    server.turns()
    server.crash()
    assert rows(server.path) < 10


def test_stopping_writes_what_waits(server: Server) -> None:
    client = server.listen("a")
    answers: list[Any] = []
    server.publish_all([publication("a", "1")]).addCallback(answers.append)
    server.stop()
    assert answers
    with pytest.raises(Unavailable):
        server.broker.publish_all([publication("a", "2")])
    server.start()
    assert server.heard("a", client.position) == (["1"], False)


# Restarts change nothing: beside the server with a file runs one that never ends, and clients that
# reconnect receive the same from both.

step = st.one_of(
    st.tuples(st.just("publish"), st.sets(st.sampled_from("abc"), min_size=1)),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 150])),
    st.tuples(st.just("mark"), st.just(None)),
    st.tuples(st.just("end"), st.sampled_from(["crash", "stop"])),
)


@pytest.mark.slow
@given(st.lists(step, max_size=40))
def test_a_client_cannot_tell_that_there_was_a_restart(steps: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        bounds = {"history_size": 3, "history_ttl": 100}
        Path(folder, "twin").mkdir()
        server, twin = Server(Path(folder), **bounds), Server(Path(folder, "twin"), **bounds)
        marks = [(server.broker.position(), twin.broker.position())]
        for number, (what, value) in enumerate(steps):
            if what == "publish":
                names = "".join(sorted(value))
                marks.append((server.publish(names, str(number)), twin.publish(names, str(number))))
            elif what == "wait":
                for each in (server, twin):
                    each.clock.advance(value)
                    each.turns()
            elif what == "mark":
                marks.append((server.broker.position(), twin.broker.position()))
            else:
                getattr(server, value)()
                server.start()
        for ours, theirs in marks:
            for channels in ("a", "b", "c", "abc"):
                assert server.heard(channels, ours) == twin.heard(channels, theirs)
