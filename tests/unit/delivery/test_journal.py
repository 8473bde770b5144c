"""A history that outlives its process: what comes back after a restart, and what a failing disk means."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.delivery import journal_file as module
from cyclone_sse.delivery.events import GAP_TYPE, EventId, EventIds
from cyclone_sse.delivery.journal import FORGET_AFTER, FORGET_AT, MAX_WAITING_BYTES, RESERVE, RETRY
from cyclone_sse.delivery.journal_file import JournalError
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Unavailable
from tests.unit.fakes import FakeClient, TurnClock

EPOCH = 1_700_000_000.0  # the wall clock when a test begins


@pytest.fixture(autouse=True, scope="module")
def connections() -> Iterator[None]:
    """Close what the servers that crash leave open: Python 3.13 warns of each."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def keep(*args: Any, **how: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **how))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", keep)
        yield
    for connection in opened:
        connection.close()


@dataclass
class Disk:
    """A writer without a thread. held: writes wait until `release`. full: they fail."""

    held: bool = False
    full: bool = False
    calls: list[tuple[Deferred[None], Callable[..., Any], tuple[Any, ...]]] = field(default_factory=list)
    lots: list[int] = field(default_factory=list)  # events in each transaction that was tried

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        ready: Deferred[None] = Deferred()
        ready.addCallback(lambda _: self._do(function, *args))
        if self.held:
            self.calls.append((ready, function, args))
        else:
            ready.callback(None)
        return ready

    def _do(self, function: Callable[..., Any], *args: Any) -> Any:
        if args:
            self.lots.append(len(args[0].events))
        if self.full and args:
            raise JournalError("history cannot be written, its disk is full")
        return function(*args)

    def release(self) -> None:
        self.held = False
        for ready, *_ in self.calls:
            ready.callback(None)
        self.calls.clear()

    def stop(self) -> None:
        assert not self.calls


class Server:
    """A broker with its history file, which can crash; and time, of which both clocks are made."""

    def __init__(self, folder: Path, wall: float = EPOCH, **settings: Any) -> None:
        self.folder = folder
        self.path = folder / "history"
        self.settings = {name.replace("_", "-"): value for name, value in settings.items()}
        self.wall = wall
        self.runs = 0
        self.start()

    def start(self) -> None:
        """Begin, as a process does: with another monotonic clock, another random tag, its own time."""
        self.runs += 1
        self.clock = TurnClock()
        self.clock.rightNow = began = 1000.0 * self.runs
        wall = self.wall
        self.disk = Disk()
        self.now = lambda: wall + self.clock.seconds() - began
        self.broker = HttpBroker(self.settings, self.clock, EventIds(self.now))
        self.broker.hub.open_journal(str(self.path), self.now, self.disk)
        self.broker.hub.start()

    def crash(self) -> None:
        """What is on the disk at this moment is all there is."""
        self.wall = self.now()
        copy = self.folder / f"copy{self.runs}"
        for suffix in ("", "-wal"):
            if (source := self.path.with_name(self.path.name + suffix)).exists():
                shutil.copy(source, copy.with_name(copy.name + suffix))
        self.path = copy

    def stop(self) -> None:
        """End in peace."""
        self.wall = self.now()
        self.broker.hub.stop()
        d = Deferred.fromCoroutine(self.broker.hub.close_journal())
        self.turns()
        assert d.called

    def turns(self) -> None:
        for _ in range(5):
            self.clock.turn()

    def publish(self, channels: str, message: str, **how: Any) -> str:
        """Publish to the channels named by these letters, and wait for the disk. Gives the id."""
        ids: list[Any] = []
        self.publish_all([publication(list(channels), message, **how)]).addCallback(ids.append)
        self.turns()
        return str(ids[0][0])

    def publish_all(self, publications: Any) -> Deferred[Any]:
        given = self.broker.publish_all(publications)
        assert isinstance(given, Deferred)
        return given

    def listen(self, channels: str, last_event_id: str | None = None) -> FakeClient:
        client = FakeClient(self.broker).listen(*channels, last_event_id=last_event_id)
        self.turns()
        return client

    def heard(self, channels: str, since: str) -> tuple[list[str], bool]:
        """What a client gets that comes back with this id, and whether it is told of a gap."""
        client = self.listen(channels, since)
        return client.messages, any(event.type == GAP_TYPE for event in client.events)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture(params=["crash", "stop"])
def end(request: pytest.FixtureRequest) -> Any:
    return lambda server: (getattr(server, request.param)(), server.start())


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


def test_subscribers_do_not_wait_for_the_disk_but_the_publisher_does(server: Server) -> None:
    client = server.listen("a")
    server.disk.held = True
    answers: list[Any] = []
    server.publish_all([publication("a", "x"), publication("b", "y")]).addCallback(answers.append)
    server.turns()
    assert client.messages == ["x"]
    assert not answers
    server.disk.release()
    assert len(answers[0]) == 2


def test_what_gathers_while_the_disk_is_busy_is_one_transaction(server: Server) -> None:
    server.disk.held = True
    answers: list[Any] = []
    for number in range(5):
        server.publish_all([publication("a", str(number))]).addCallback(answers.append)
        server.turns()
    server.disk.release()
    assert len(answers) == 1, "each answer comes with its transaction"
    server.turns()
    assert server.disk.lots == [1, 4]
    assert len(answers) == 5


def test_a_full_disk_is_told_to_publishers_and_nothing_more_is_accepted(
    server: Server, failures: list[Any]
) -> None:
    client = server.listen("a")
    server.disk.held = server.disk.full = True
    refused: list[Any] = []
    server.publish_all([publication("a", "1")]).addErrback(refused.append)
    server.turns()
    server.publish_all([publication("a", "2")]).addErrback(refused.append)
    server.disk.release()
    server.turns()
    assert [each.check(Unavailable) for each in refused] == [Unavailable] * 2
    with pytest.raises(Unavailable):
        server.publish_all([publication("a", "3")])
    server.clock.advance(RETRY)
    with pytest.raises(Unavailable):
        server.publish_all([publication("a", "3")])
    server.disk.full = False
    server.clock.advance(RETRY)
    server.turns()
    server.publish("a", "4")
    assert client.messages == ["1", "2", "4"], "who listens has seen what was refused later"
    server.crash()
    server.start()
    assert server.heard("a", client.position) == (["1", "2", "4"], False), "and so it is kept at last"
    assert not failures


def test_a_bug_in_writing_is_logged_and_refuses_as_well(
    server: Server, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module.JournalFile, "write", broken)
    refused: list[Any] = []
    for _ in range(3):
        try:
            server.publish_all([publication("a", "1")]).addErrback(refused.append)
        except Unavailable:
            refused.append(None)
        server.clock.advance(RETRY)
        server.turns()
    assert len(refused) == 3
    assert len(failures) == 1


@pytest.mark.slow
def test_a_disk_that_is_too_slow_takes_no_more_than_fits_in_memory(server: Server) -> None:
    server.disk.held = True
    large = [publication("a", "x" * 2**20)] * (MAX_WAITING_BYTES // 2**20)
    server.publish_all(large)
    with pytest.raises(Unavailable):
        server.publish_all(large)
    server.turns()
    server.disk.release()
    server.turns()
    server.publish("a", "y")


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


@pytest.mark.parametrize("when", ["while it fails", "before it is noticed"])
def test_stopping_with_a_full_disk_ends(server: Server, when: str) -> None:
    server.disk.full = True
    refused: list[Any] = []
    server.publish_all([publication("a", "1")]).addErrback(refused.append)
    if when == "while it fails":
        server.turns()
    server.stop()
    assert refused
    server.start()
    server.publish("a", "2")


# Restarts change nothing: beside the server with a file runs one that never ends, and clients that come
# back are told the same by both.

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
