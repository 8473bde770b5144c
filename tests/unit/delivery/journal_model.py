"""`servers_model` with one server and its history file: it crashes or stops between any two steps.

Publishers send events again with their keys; the disk hangs and is full; the clock is set.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, succeed

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.kinds import Kinds
from cyclone_sse.delivery.publication import Publication, publication
from cyclone_sse.errors import Unavailable
from tests.unit.delivery.clients import EPOCH, turns
from tests.unit.delivery.journals import Disk
from tests.unit.delivery.moving_listeners import Entry, number_of
from tests.unit.delivery.servers_model import CHANNELS, Server, ServersModel
from tests.unit.fakes import TurnClock


class JournalServer(Server):
    """A process with its history file. shift: seconds by which the clock was set."""

    def __init__(
        self, path: Path, clock: TurnClock, kinds: Kinds, settings: dict[str, Any], shift: float
    ) -> None:
        self.path = path
        self.disk = Disk()
        self.now = lambda: EPOCH + shift + clock.seconds()
        self.broker: HttpBroker = HttpBroker(dict(settings), clock, EventIds(self.now))
        self.prepare(kinds, clock)
        self.hub.publishing.open_journal(str(path), self.now, self.disk)
        self.hub.start()
        self.hub.presence.start(lambda message: succeed(None), lambda: True)

    @property
    def position(self) -> int:
        return self.hub.ids.last

    def close(self) -> None:
        """Leave nothing of the process."""
        journal: Any = self.hub.publishing._journal
        journal._file.close()


class JournalModel(ServersModel):
    """One server that keeps its history in a file."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._folder = TemporaryDirectory()
        self.runs = 0
        self.shift = 0.0
        self._number = 0
        self._asked: list[Any] = []  # kept: what a process that has crashed leaves unanswered is no error
        self.start(Path(self._folder.name) / "history")

    def close(self) -> None:
        """Delete the file."""
        self.runs += 1
        self.server.close()
        self._folder.cleanup()

    @property
    def server(self) -> JournalServer:
        """The process that runs at present."""
        return self.servers[0]  # type: ignore[no-any-return]

    def start(self, path: Path) -> None:
        self.servers = [JournalServer(path, self.clock, self.kinds, self.settings, self.shift)]
        self.server.hub._fanout._slice = self.slice

    def actions(self) -> list[Callable[[], object]]:
        rare = [self.crash, self.stop, self.publish_again, self.publish_again, self.hang, self.fill]
        return [*super().actions(), *rare, *[self.repair] * 6]

    # Publishing.

    def publish(self) -> None:
        choose = self.random.choice
        channels = tuple(self.random.sample(CHANNELS, choose([1, 1, 1, 2, 3])))
        ttl = choose([*[None] * 9, 0, 1, 5])
        excluded, keep = choose([None, None, None, "me"]), choose([False, False, True])
        batch = []
        for _ in range(choose([1, 1, 1, 2, 9])):
            self._number += 1
            key = choose([None, f"key-{self._number}"])
            batch.append(Entry(self._number, channels, excluded, ttl, keep, key=key, is_sure=False))
            self.entries[self._number] = batch[-1]
        self._publish(batch)

    def publish_again(self) -> None:
        """Send some events again, perhaps together; their publishers may not know that they were accepted.

        The events have other numbers, which clients receive only if the first attempts are lost.
        """
        with_keys = [entry for entry in self.entries.values() if entry.key]
        if with_keys:
            some = self.random.sample(with_keys, min(len(with_keys), self.random.choice([1, 2, 3])))
            keys = dict.fromkeys(entry.key for entry in some)
            batch = []
            for key in keys:
                first = next(entry for entry in some if entry.key == key)
                self._number += 1
                batch.append(replace(first, number=self._number, seq=0, is_sure=False))
                self.entries[self._number] = batch[-1]
            self._publish(batch)

    def _publish(self, batch: Sequence[Entry]) -> None:
        broker = self.server.broker
        made = [self._publication(entry) for entry in batch]
        try:
            published: Any = broker.publish_all(made)
        except Unavailable:
            return
        self._asked.append((published, broker))
        published.addCallback(self._note, batch, self.runs).addErrback(self._refused, self.runs)

    def _publication(self, entry: Entry) -> Publication:
        text = f"{entry.number} {'x' * (entry.number % 3 * 200)}"
        return publication(
            entry.channels,
            text,
            ttl=entry.ttl,
            excluded=entry.excluded,
            keep=entry.keep,
            idempotency_key=entry.key,
        )

    def _note(self, ids: Sequence[str], batch: Sequence[Entry], run: int) -> None:
        for id, _ in zip(ids, batch, strict=True):
            eid = EventId.parse(id)
            assert eid is not None
            held = next(iter(self.server.hub.history.log_after(eid.seq - 1)), None)
            if run == self.runs and held is not None and held.seq == eid.seq:
                entry = self.entries[number_of(held)]  # an earlier attempt, if there was one
                assert entry.seq in (0, eid.seq), "an event has one id"
                entry.seq, entry.is_sure = eid.seq, True

    def _refused(self, failure: Any, run: int) -> None:
        if run == self.runs:  # else its process is gone
            failure.trap(Unavailable)

    # The process and its disk.

    def hang(self) -> None:
        self.server.disk.held = True

    def fill(self) -> None:
        self.server.disk.full = True

    def repair(self) -> None:
        self.server.disk.full = False
        if self.server.disk.held:
            self.server.disk.release()

    def crash(self) -> None:
        """What is on the disk at this moment is all there is."""
        before = self.server
        self.runs += 1
        after = before.path.with_name(f"copy{self.runs}")
        for suffix in ("", "-wal"):
            if (source := before.path.with_name(before.path.name + suffix)).exists():
                shutil.copy(source, after.with_name(after.name + suffix))
        self._end(after, is_whole=False)

    def stop(self) -> None:
        """It ends in peace."""
        self.repair()
        turns(self.clock, 10_000)  # what was accepted is published first
        self.server.hub.stop()
        closed = Deferred.fromCoroutine(self.server.hub.publishing.close_journal())
        turns(self.clock, 10_000)
        assert closed.called
        self.runs += 1
        self._end(self.server.path, is_whole=True)

    def _end(self, path: Path, is_whole: bool) -> None:
        for listener in self.listeners:
            if listener.client is not None:
                self._disconnect(listener, self.random.randint(listener.parsed, len(listener.sent)))
        self.server.close()
        self.clock.calls.clear()
        self.clock.advance(0.1)
        # Where the disk hung before a crash, ids are not reserved: the clock must not be set back, too.
        shifts = [0, 0, 0, 1, 3600, -3600 if is_whole else 0]
        self.shift += self.random.choice(shifts) if self.is_lossless else 0
        self.start(path)

    def settle(self) -> None:
        self.repair()
        super().settle()
