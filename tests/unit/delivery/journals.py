"""A broker with a history file that can crash, on a disk that the test can stop and fill."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.delivery.events import GAP_TYPE, EventIds
from cyclone_sse.delivery.journal_file import JournalError
from cyclone_sse.delivery.publication import publication
from tests.unit.fakes import FakeClient, TurnClock

EPOCH = 1_700_000_000.0  # the wall clock when a test begins


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with default options."""
    return Server(tmp_path)


@pytest.fixture(params=["crash", "stop"])
def end(request: pytest.FixtureRequest) -> Any:
    """Ends a server, in either way, and starts it again."""
    return lambda server: (getattr(server, request.param)(), server.start())


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
        self.clock_set = 0.0  # seconds by which the clock was set while this process runs
        self.now = lambda: wall + self.clock_set + self.clock.seconds() - began
        self.broker = HttpBroker(self.settings, self.clock, EventIds(self.now))
        self.broker.hub.publishing.open_journal(str(self.path), self.now, self.disk)
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
        d = Deferred.fromCoroutine(self.broker.hub.publishing.close_journal())
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
        """What a client that reconnects with this id receives, and whether with a gap."""
        client = self.listen(channels, since)
        return client.messages, any(event.type == GAP_TYPE for event in client.events)
