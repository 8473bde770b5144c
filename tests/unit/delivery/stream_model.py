"""`servers_model` with servers on one Redis stream, each of which reads it in its own time.

The stream is trimmed, also before some servers have read it, is deleted, renamed, or loses its end. Servers
are killed and started again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.brokers.redis_stream import RedisStreamBroker
from cyclone_sse.delivery.kinds import Kinds
from tests.unit.brokers.redis_streams import Contents, FakeStream, done, number
from tests.unit.delivery.moving_listeners import Entry
from tests.unit.delivery.servers_model import CHANNELS, Server, ServersModel
from tests.unit.fakes import TurnClock

KEPT = 40  # entries that a server reads when it starts


class Stream(FakeStream):
    """The stream in Redis. Its clock is such that the history's time begins before the last entries.

    kept: that many.
    """

    kept = KEPT

    async def now(self) -> int:
        return int(self.time + 1000 * 1e6 - self.kept)


class Process:
    """The reactor of a process, on the clock of all. After its end nothing runs any more."""

    def __init__(self, clock: TurnClock) -> None:
        self.seconds = clock.seconds
        self.has_ended = False
        self._clock = clock

    def callLater(self, delay: float, function: Any, *args: Any, **named: Any) -> Any:
        return self._clock.callLater(delay, self._call, function, args, named)

    def _call(self, function: Any, args: Any, named: Any) -> None:
        if not self.has_ended:
            function(*args, **named)


class StreamServer(Server):
    """A server that reads the stream when it is told to."""

    def __init__(self, stream: Stream, clock: TurnClock, kinds: Kinds, settings: dict[str, Any]) -> None:
        self.process = Process(clock)
        self.broker: RedisStreamBroker = RedisStreamBroker(
            dict(settings),
            reactor=self.process,  # type: ignore[arg-type]
        )
        self.stream = stream
        self.prepare(kinds, clock)

        async def run(command: Any) -> Any:
            return await (Deferred() if self.process.has_ended else command(stream))

        self.broker._publishing.run = lambda command, size: (  # type: ignore[method-assign]
            Deferred.fromCoroutine(run(command))
        )
        done(self.broker.set_up(stream))  # type: ignore[arg-type]
        self.hub.start()
        self.hub.presence.start(self.broker._presence_exchange._report, lambda: True)
        self.hub.presence.ask()

    def read(self) -> bool:
        return bool(done(self.broker.read_lot(self.stream)))  # type: ignore[arg-type]

    def kill(self) -> None:
        """End the process."""
        self.process.has_ended = True

    @property
    def last(self) -> int:
        """The number of the entry read last."""
        return number(self.broker._position.last)

    @property
    def position(self) -> int:
        unread = [number(id) for id, _ in self.stream.entries if number(id) > self.last]
        return max(min(unread, default=self.stream.time + 1) - 1, self.hub.ids.present().ms)


class StreamModel(ServersModel):
    """Servers that read one stream."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        choose = self.random.choice
        self.may_lose = choose([True, False, False])
        self.stream = Stream(counts=choose([True, True, False]))
        # Without the counts of Redis 7 a server that starts does not know that nothing was trimmed.
        self.may_have_gaps = not self.stream.counts
        self.rewritten: str | None = None  # the tag of the stream when it last lost its end
        self.left: list[Contents] = []  # streams that were renamed
        self.is_renamed_often = self.may_lose and choose([True, False])
        if self.is_lossless and not self.may_lose:
            self.stream.kept = 10_000
        self.servers = [self._start() for _ in range(choose([1, 2, 3]))]

    def _start(self) -> StreamServer:
        server = StreamServer(self.stream, self.clock, self.kinds, self.settings)
        server.hub._fanout._slice = self.slice
        return server

    @property
    def newest(self) -> int:
        return self.stream.time

    def actions(self) -> list[Callable[[], object]]:
        actions = [*super().actions(), *[self.read_stream] * 18, self.restart]
        if not self.is_lossless:
            actions += [self.trim]
        if self.may_lose:
            actions += [self.lose, self.go_back, self.rename, self.rename_back]
        if self.is_renamed_often:
            actions += [self.rename, self.rename_back, self.join] * 6 + [self.add_during_reading] * 20
        return actions

    def publish(self) -> None:
        choose = self.random.choice
        channels = tuple(self.random.sample(CHANNELS, choose([1, 1, 1, 2, 3])))
        ttl = choose([*[None] * 9, 0, 1, 5])
        excluded, keep = choose([None, None, None, "me"]), choose([False, False, True])
        for _ in range(choose([1, 1, 1, 2, 9])):
            n = self.stream.time + 1
            fields = [word for name in channels for word in (b"channel", name.encode())]
            fields += [b"message", f"{n} {'x' * choose([0, 10, 400])}".encode()]
            fields += [b"ttl", str(ttl).encode()] if ttl is not None else []
            fields += [b"except", excluded.encode()] if excluded else []
            fields += [b"keep", b"1"] if keep else []
            assert self.stream.add(*fields) == n
            self.entries[n] = Entry(n, channels, excluded, ttl, keep, seq=n)

    def read_stream(self) -> None:
        self.random.choice(self.servers).read()

    def restart(self) -> None:
        """A process ends, and is started again. Its clients connect again, to any server."""
        place = self.random.randrange(len(self.servers))
        if self.stream.tag is not None and self.stream.tag == self.rewritten:
            return  # it may be the only one that can know of the loss
        ended = self.servers[place]
        ended.kill()
        for listener in self.listeners:
            if listener.server is ended:
                listener.is_waiting = False
                if listener.client is not None:
                    self._disconnect(listener, self.random.randint(listener.parsed, len(listener.sent)))
        self.servers[place] = self._start()
        self.left.clear()  # a server that starts now cannot know of them

    def add_during_reading(self) -> None:
        """A client adds a channel while its server reads the past again."""
        for listener in self.listeners:
            if listener.client is not None and not listener.is_over:
                ids = listener.server.hub.ids
                if ids.last < ids.old and self.random.choice([True, False]):
                    self._add_channel(listener)

    def _are_all_at(self, last: bytes) -> bool:
        """Whether all servers know the stream and have read it up to this entry."""
        return all(
            server.broker._tag == self.stream.tag and server.last >= number(last) for server in self.servers
        )

    def trim(self) -> None:
        count = self.random.choice([1, 5, 100])
        if not self.stream.counts:
            # Without the counts of Redis 7 a server does not notice all that is trimmed before it is read.
            read = min(server.last for server in self.servers)
            count = min(count, sum(number(id) <= read for id, _ in self.stream.entries))
        del self.stream.entries[:count]

    def lose(self) -> None:
        self._note_gone(self.stream.entries)
        self.stream.lose()

    def _note_gone(self, entries: list[Any]) -> None:
        """A client that comes later is not due these, even if its position is before them."""
        self.noticed_late |= {number(id) for id, _ in entries}

    def go_back(self) -> None:
        stream, count = self.stream, self.random.choice([1, 3])
        is_read = any(server.last == number(stream.last) for server in self.servers)
        # No server can know of entries that none has read.
        if len(stream.entries) >= count and is_read and self._are_all_at(b"0-0"):
            self._note_gone(stream.entries[-count:])
            stream.go_back(count)
            self.rewritten = stream.tag
            held, last = stream.states_held, number(stream.last)
            stream.states_held = {name: value for name, value in held.items() if number(value) <= last}

    def rename(self) -> None:
        stream = self.stream
        if self._are_all_at(stream.last):
            self.left.append(stream.contents)
            stream.lose()

    def rename_back(self) -> None:
        stream = self.stream
        if self.left and self._are_all_at(b"0-0"):
            self._note_gone(stream.entries)
            stream.contents = self.left.pop()
