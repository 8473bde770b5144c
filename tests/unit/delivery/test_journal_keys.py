"""Idempotency keys in a history file: known after a restart, and bounded as those in memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclone_sse.delivery import idempotency, journal
from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.journal import FORGET_AFTER, WRITE_TIMEOUT
from cyclone_sse.delivery.publication import publication
from tests.unit.delivery.journals import Server, connections, end, server

__all__ = ["connections", "end", "server"]

MOST = 20


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (idempotency, journal):
        monkeypatch.setattr(module, "MAX_IDEMPOTENCY_KEYS", MOST)


def publish(server: Server, *keys: str, **how: Any) -> list[str]:
    """The ids of events that are published with these keys."""
    ids: list[str] = []
    server.publish_all([publication("a", key, idempotency_key=key, **how) for key in keys]).addCallback(
        ids.extend
    )
    server.turns()
    return ids


def wait(server: Server, seconds: float) -> None:
    for _ in range(int(seconds)):
        server.clock.advance(1)
        server.turns()


def in_file(server: Server) -> set[str]:
    """The keys in the file; ends the server."""
    server.crash()
    with closing(sqlite3.connect(server.path)) as db:
        keys = {key for (key,) in db.execute("SELECT key FROM published")}
    server.start()
    return keys


def test_keys_are_known_after_a_restart(server: Server, end: Any) -> None:
    first = publish(server, "k", "l")
    end(server)
    assert publish(server, "l", "m", "k")[::2] == first[::-1]


def test_no_key_is_older_than_one_that_was_used_before(server: Server) -> None:
    publish(server, "before")
    server.stop()
    server.wall -= 86400
    server.start()
    first = publish(server, "k")
    server.stop()
    server.wall += 7200
    server.start()
    assert publish(server, "k") == first


def test_the_key_of_an_event_that_is_not_kept_is_known_after_a_restart(server: Server, end: Any) -> None:
    client = server.listen("a")
    server.disk.held = True
    first: list[str] = []
    for key, keep in (("k", False), ("l", True)):
        each = publication("a", key, idempotency_key=key, ttl=0, keep=keep)
        server.publish_all([each]).addCallback(first.extend)
    server.turns()
    assert client.messages == ["k", "l"]
    assert first == [], "its publisher waits until the key is on the disk"
    server.disk.release()
    server.turns()
    assert len(first) == 2
    end(server)
    again = server.listen("a", client.position)
    assert publish(server, "k", "l", ttl=0) == first
    assert again.messages == []


def test_the_file_has_no_more_keys_than_the_memory(server: Server, few: None) -> None:
    for n in range(10):
        publish(server, *[f"{n}-{k}" for k in range(15)])
    wait(server, FORGET_AFTER + 1)
    assert in_file(server) == {f"9-{k}" for k in range(15)} | {f"8-{k}" for k in range(10, 15)}


def test_keys_that_are_too_old_are_deleted_without_another_event(server: Server) -> None:
    publish(server, "k")
    wait(server, 150)
    publish(server, "l")
    wait(server, 151 + FORGET_AFTER)
    assert in_file(server) == {"l"}


def test_a_key_that_is_used_again_after_its_time_stays(server: Server, end: Any) -> None:
    publish(server, "before")
    wait(server, FORGET_AFTER / 2)
    first = publish(server, "k")
    wait(server, 300)  # the one before was deleted just now, and this one will be
    second = publish(server, "k")
    assert second != first
    wait(server, FORGET_AFTER + 2)
    end(server)
    assert publish(server, "k") == second


def test_a_key_that_is_forgotten_before_it_is_written_is_not_written(server: Server) -> None:
    server.disk.held = True
    # In two transactions, of which the second is not yet made when the key is forgotten.
    for key in (None, "k"):
        server.publish_all([publication("a", "x", idempotency_key=key)]).addErrback(lambda _: None)
        server.turns()
    server.clock.advance(WRITE_TIMEOUT)
    wait(server, 301)
    server.disk.release()
    wait(server, FORGET_AFTER + 1)
    assert in_file(server) == set()


def test_the_keys_of_an_older_version_are_bounded_at_the_start(server: Server, few: None) -> None:
    publish(server, "newest")
    server.stop()
    position = EventId(server.broker.hub.ids.last, "")
    rows = [(f"k{n}", position.ms - 5000 + n, 0, int(server.wall * 1000)) for n in range(5000)]
    with closing(sqlite3.connect(server.path)) as db, db:
        db.executemany("INSERT INTO published VALUES (?, ?, ?, ?)", rows)
    server.start()
    assert len(server.broker.hub.idempotency) == MOST
    assert in_file(server) == {"newest", *[f"k{n}" for n in range(5000 - MOST + 1, 5000)]}
    assert publish(server, "k4999")[0].startswith(f"{position.ms - 1}-0-")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["crash", "stop"]), st.none()),
    ),
    max_size=15,
)


@pytest.mark.slow
@settings(max_examples=50)
@given(steps)
def test_the_file_has_the_keys_of_the_memory(steps: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (idempotency, journal):
            patch.setattr(module, "MAX_IDEMPOTENCY_KEYS", MOST)
        server = Server(Path(folder), **{"idempotency-ttl": 60})
        for what, value in steps:
            if what == "publish":
                publish(server, *map(str, value))
            elif what == "wait":
                wait(server, value)
            else:
                getattr(server, what)()
                server.start()
        before = set(server.broker.hub.idempotency._known)
        wait(server, FORGET_AFTER + 2)
        after = set(server.broker.hub.idempotency._known)
        assert len(after) <= MOST
        assert after <= in_file(server) <= before
