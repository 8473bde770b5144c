"""A stream in Redis that the test plays, and a broker that reads it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from cyclone_sse.brokers.redis_stream import RedisStreamBroker
from cyclone_sse.brokers.redis_stream_link import Lot, StreamEntry, StreamLink, _fields_of
from cyclone_sse.brokers.redis_stream_position import Survey
from cyclone_sse.delivery.publication import Publication
from tests.unit.fakes import TurnClock

Contents = tuple[list[StreamEntry], str | None, int, bytes]  # entries, tag, entries ever added, last id


class FakeStream:
    """A stream in Redis, and a connection to it in one. Entry n has the id n-0."""

    def __init__(self, counts: bool = True) -> None:
        self.counts = counts  # as Redis does from 7.0 on
        self.lost = None
        self.tag: str | None = None
        self.tags = 0
        self.time = 0
        self.states_held: dict[bytes, bytes] = {}
        self.lose()

    def lose(self) -> None:
        """It is deleted."""
        self.entries: list[StreamEntry] = []
        self.tag = None
        self.added, self.last = 0, b"0-0"
        self.deleted: bytes | None = b"0-0" if self.counts else None

    @property
    def contents(self) -> Contents:
        """What a rename or a failover takes away and brings back: a copy, which can be set again."""
        return list(self.entries), self.tag, self.added, self.last

    @contents.setter
    def contents(self, contents: Contents) -> None:
        self.entries, self.tag, self.added, self.last = contents

    def add(self, *fields: bytes) -> int:
        """An entry; gives its number."""
        self.time += 1
        self.last = b"%d-0" % self.time
        self.entries.append((self.last, list(fields or (b"channel", b"a", b"message", b"%d" % self.time))))
        self.added += 1
        return self.time

    def delete(self, n: int) -> None:
        """XDEL of one entry."""
        self.entries = [entry for entry in self.entries if number(entry[0]) != n]
        self.deleted = b"%d-0" % n

    def go_back(self, n: int) -> None:
        """The last n entries were never there."""
        self.entries = self.entries[: len(self.entries) - n]
        self.added -= n
        self.last = self.entries[-1][0] if self.entries else b"0-0"

    async def claim(self, renew: bool = False) -> str:
        if self.tag is None or renew:
            self.tags += 1
            self.tag = f"tag{self.tags}"
        return self.tag

    async def survey(self) -> Survey:
        first = self.entries[0][0] if self.entries else None
        return Survey(first, self.last, len(self.entries), self.added if self.counts else None, self.deleted)

    async def read(self, after: bytes, most: int, wait: float = 0) -> Lot:
        found = [entry for entry in self.entries if number(entry[0]) > number(after)]
        holds = any(each == after for each, _ in self.entries)
        complete = len(found) <= most - holds
        return Lot(found[:most], self.tag, await self.survey(), holds, complete)

    async def last_before(self, id: bytes) -> bytes | None:
        before = [each for each, _ in self.entries if number(each) < number(id)]
        return before[-1] if before else None

    async def states(self) -> list[tuple[bytes, bytes]]:
        return list(self.states_held.items())

    async def set_states(self, values: dict[bytes, bytes]) -> None:
        for channel, value in values.items():
            held = self.states_held.get(channel)
            if held is None or number(held) <= number(value):
                self.states_held[channel] = value

    async def clear_states(self, before: bytes, channels: list[str]) -> None:
        for name in map(str.encode, channels):
            if name in self.states_held and number(self.states_held[name]) < number(before):
                del self.states_held[name]

    async def publish(self, publications: list[Publication]) -> list[bytes]:
        return [b"%d-0" % self.add(*_fields_of(each)) for each in publications]

    def publish_order(self, order: bytes) -> Deferred[bytes]:
        return succeed(b"%d-0" % self.add(b"control", order))

    publish_clear = StreamLink.publish_clear

    async def now(self) -> int:
        return self.time


def number(id: bytes) -> int:
    return int(id.partition(b"-")[0])


def done(coroutine: Any) -> Any:
    """The result of something that does not wait, or its error."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class Reader:
    """A broker on that stream, and what it sent to its clients."""

    def __init__(self, stream: FakeStream, **options: Any) -> None:
        self.stream = stream
        self.clock = TurnClock()
        self.broker = RedisStreamBroker(options, reactor=self.clock)
        self.told: list[Any] = []  # numbers of entries; the tag where ids are reset

        async def run(command: Any) -> Any:
            return await command(stream)

        self.broker._publishing.run = lambda command, size: (  # type: ignore[method-assign]
            Deferred.fromCoroutine(run(command))
        )
        publish, begin = self.broker.hub.publish, self.broker.hub.reset_ids

        def publish_and_tell(each: Any, eid: Any = None) -> Any:
            self.told.append(eid.ms)
            return publish(each, eid)

        def begin_and_tell(node: str, last: int, old: int = 0) -> None:
            self.told.append(node)
            begin(node, last, old)

        self.broker.hub.publish = publish_and_tell  # type: ignore[assignment]
        self.broker.hub.reset_ids = begin_and_tell  # type: ignore[method-assign]
        self.connect()

    def connect(self) -> None:
        """A new connection."""
        done(self.broker.set_up(self.stream))  # type: ignore[arg-type]

    def read(self) -> bool:
        """Read one batch; returns whether more may follow."""
        more: bool = done(self.broker.read_lot(self.stream))  # type: ignore[arg-type]
        return more

    def read_all(self) -> list[int]:
        """Read all batches; returns how many entries each had."""
        sizes = []
        more = True
        while more:
            before = len(self.told)
            more = self.read()
            sizes.append(len(self.told) - before)
        return sizes

    def held(self, *channels: str) -> list[int]:
        """The numbers of the entries that the history has."""
        return [event.id.ms for event in self.broker.hub.history.since(0, channels)]
