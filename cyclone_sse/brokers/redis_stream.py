"""The broker redis-stream: everything that one Redis stream brings, with the ids that Redis gives.

All instances read the same stream, so an event has the same id on each, and a client that changes from one
to another goes on exactly where it was. Memory answers it; the stream fills the memory before the port opens,
and brings what comes. After Redis was away reading goes on from the last id, and nothing is lost.

When something is lost all the same, it is found out here, and the clients are told of the gap::

    the tag is another        the stream was lost, and another has its place
    the stream went back      its master died before a replica had it all: it is given another tag
    the oldest entry is       entries were trimmed that we have not read: told from the figures that Redis
      past our position       has of the stream, since trimming what we have read is nothing to tell

Anybody may write the stream: what cannot be understood is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from cyclone_sse.brokers.redis_link import ResponseError, is_pattern
from cyclone_sse.brokers.redis_server import redis_server
from cyclone_sse.brokers.redis_stream_link import BEGINNING, Entry, StreamLink, Survey
from cyclone_sse.brokers.upstream import UpstreamBroker
from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.publication import Publication

READ_WAIT = 5.0  # seconds that Redis waits for an entry before it says that there is none
AHEAD_WAIT = 2.0  # seconds that a client waits for us to read what it has heard elsewhere
FIRST_LOT = 16  # entries
LOT = 500  # entries read at a time, at the most: some milliseconds of work
LOT_BYTES = 1 << 20  # and about so many bytes
TRIM_INTERVAL = 10.0  # seconds
KEPT = 60.0  # seconds that entries are kept at least, for instances that are behind
UNTOLD = 1  # a position that no event can have, before all others


class RedisStreamBroker(UpstreamBroker):
    """Reads one Redis stream, and adds to it what is published."""

    lingers = False
    matches_patterns = True
    open_patterns = False
    has_heartbeat = False  # it reads what it publishes
    carries = frozenset(("event", "retry", "ttl", "except"))

    def __init__(self, settings: Mapping[str, Any], reactor: Any = None) -> None:
        super().__init__(settings, "redis-stream", reactor, ids=EventIds(None))
        redis = redis_server(self.settings, self.reactor)
        self._redis = redis
        self.longest_retry = redis.longest_retry
        self._stream: str = self.settings["redis-stream"]
        self._kind = partial(StreamLink, self._stream, self.settings["redis-stream-size"])
        self.server = f"stream {self._stream!r} of {redis.name}"
        self._caught_up: Deferred[None] = Deferred()
        self._tag: str | None = None  # of the stream that we read; None before the first
        self._last = BEGINNING  # the id of the last entry read
        self._count: int | None = None  # how many entries the stream had had up to that one, if we know
        self._lot = FIRST_LOT  # entries to read next
        self._in_doubt = False  # something may have been trimmed that lies just behind us
        self._live = False  # orders count from now on
        self._next_trim = 0.0
        self._waiting: dict[Deferred[None], int] = {}  # clients, and the position that they wait for

    def is_pattern(self, channel: str) -> bool:
        """Whether the name stands for many channels."""
        return is_pattern(channel)

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Both connections are of one kind."""
        return self._redis.open(self._kind)

    def connect(self) -> Deferred[None]:
        """Fires when all that the stream held at the start has been read."""
        super().connect()
        return self._caught_up

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Fires with the ids of the events when Redis has them."""
        return super().publish_all(publications).addCallback(self._named)

    def _named(self, ids: Sequence[bytes]) -> Sequence[str]:
        return [f"{id.decode()}-{self._tag}" for id in ids]

    def ready(self, channels: Sequence[str], last_event_id: str | None = None) -> Deferred[Any] | None:
        """Wait if the client has heard elsewhere what we have not yet read."""
        eid = EventId.parse(last_event_id) if last_event_id else None
        if eid is None or eid.node != self._tag or eid.seq <= self.hub.ids.last:
            return None
        waiting: Deferred[None] = Deferred(self._stop_waiting)
        self._waiting[waiting] = eid.seq
        return waiting.addTimeout(AHEAD_WAIT, self.reactor).addErrback(lambda _: None)

    def _stop_waiting(self, waiting: Deferred[None]) -> None:
        del self._waiting[waiting]

    async def check_server(self) -> None:
        """Find out whether the sentinels name another master by now."""
        await self._redis.check((self._link, self._publisher))

    # Reading.

    async def set_up(self, link: StreamLink) -> None:
        """Find our place in the stream, and read up to the present."""
        tag = await link.claim()
        if self._tag is None:
            await self._begin(link, tag)
        elif tag != self._tag:
            await self._change(link, tag)
        else:
            await self._go_on(link, await link.survey())
        while await self._read(link):
            pass
        self._live = True
        if not self._caught_up.called:
            self._caught_up.callback(None)

    async def run(self, link: StreamLink) -> None:
        """Read what comes, for ever."""
        while link.lost is None:
            try:
                await self._read(link, READ_WAIT)
            except ResponseError as error:  # it has become another kind of key, say
                link.abort(error)
                return
            if self.reactor.seconds() >= self._next_trim:
                self._next_trim = self.reactor.seconds() + TRIM_INTERVAL
                await self._trim(link)

    async def _begin(self, link: StreamLink, tag: str) -> None:
        """Read the stream from where the history's time begins."""
        survey = await link.survey()
        oldest = max(0, await link.now() - int(self.settings["history-ttl"] * 1000))
        before = await link.last_before(b"%d-0" % oldest)
        if before is not None:
            floor = _seq(before)  # nothing lies between this one and what we read
        elif survey.first is None:
            floor = _seq(survey.last)
        elif survey.added == survey.length:
            floor = UNTOLD  # nothing was ever trimmed
        else:
            floor = _seq(survey.first) - 1
        self._start_at(tag, before or (survey.last if survey.first is None else BEGINNING), floor)

    def _start_at(self, tag: str, after: bytes, floor: int, count: int | None = None) -> None:
        """Go on after this entry; before the floor nobody knows what there was."""
        self._tag, self._last, self._count = tag, after, count
        self.hub.reset_ids(tag, max(floor, UNTOLD))

    async def _change(self, link: StreamLink, tag: str) -> None:
        """The stream has another tag than it had."""
        survey = await link.survey()
        if _seq(survey.last) < _seq(self._last):
            self._start_at(tag, survey.last, _seq(survey.last), survey.added)
        elif self._last != BEGINNING and await link.holds(self._last):
            self._start_at(tag, self._last, _seq(self._last))  # another server found that it had gone back
        else:
            await self._begin(link, tag)
        self.log.error("{server} was lost: another goes on in its place", server=self.server)

    async def _go_on(self, link: StreamLink, survey: Survey) -> None:
        """It is the same stream; is it what it was?"""
        added, count = survey.added, self._count
        went_back = _seq(survey.last) < _seq(self._last) or (
            added is not None and count is not None and added < count
        )
        if went_back:
            self.log.error("{server} has lost its end", server=self.server)
            self._start_at(await link.claim(renew=True), survey.last, _seq(survey.last), added)
        else:
            self._look_for_hole(survey, [])

    async def _read(self, link: StreamLink, wait: float = 0) -> int:
        """Read one lot and publish it. Gives how many entries that were."""
        entries, tag, length = await link.read(self._last, self._lot, wait)
        if tag != self._tag:
            await self._change(link, tag or await link.claim())
            return 1  # there may be more
        # What we have read, or a part of it, mostly is still there; then nothing behind it can be missing.
        if len(entries) > 1 or length <= 1 or self._in_doubt or (self._count is None and not entries):
            self._look_for_hole(await link.survey(), entries)
        elif self._count is not None:
            self._count += len(entries)
        size = 0
        for id, fields in entries:
            try:
                self._publish_entry(id, fields)
            except Exception:
                # It would end the connection, and on the next one all before it would be sent once more.
                self.log.failure("could not publish an entry of {server}", server=self.server)
            size += sum(map(len, fields))
        if entries:
            self._last = entries[-1][0]
            self._lot = max(
                1, min(LOT, max(FIRST_LOT, 2 * len(entries)), LOT_BYTES * len(entries) // max(size, 1))
            )
            self._let_in()
        return len(entries)

    def _look_for_hole(self, survey: Survey, entries: Sequence[Entry]) -> None:
        """Whether something was trimmed between our position and these entries, which follow in the stream.

        Then all clients are told of the gap; but not where all that ever was behind our position is still
        there: so entries are counted, as Redis does.
        """
        first, last = survey.first, entries[-1][0] if entries else self._last
        self._in_doubt = False
        if first is not None and _seq(first) <= _seq(self._last):
            self._count = None if self._count is None else self._count + len(entries)
        elif entries and (first is None or _seq(first) > _seq(last)):
            # Even these are trimmed by now, and perhaps more: the next look tells.
            self._in_doubt = True
            self._count = None if self._count is None else self._count + len(entries)
        else:
            held = sum(_seq(id) >= _seq(first) for id, _ in entries) if first else 0
            to_come = survey.length - held
            if survey.added is None or self._count is None:
                missing = first is not None and self._last != BEGINNING
            else:
                missing = survey.added - self._count > len(entries) + to_come
            self._count = None if survey.added is None else survey.added - to_come
            if missing:
                self._tell_hole(entries[0][0] if entries else first, survey.last)
        if survey.added is not None and survey.last == last:
            self._count = survey.added

    def _tell_hole(self, first: bytes | None, last: bytes) -> None:
        """Something before this entry was trimmed unread, or all that there was up to the last one."""
        self.log.error("{server} was trimmed before it was read", server=self.server)
        assert self._tag is not None
        if first is None:
            self._last = last
        self.hub.reset_ids(self._tag, _seq(last) if first is None else _seq(first) - 1)

    def _publish_entry(self, id: bytes, fields: Sequence[bytes]) -> None:
        try:
            if b"control" in fields[::2]:
                if self._live:
                    self.obey_json(fields[2 * fields[::2].index(b"control") + 1])
                return
            publication = Publication.from_entry(zip(fields[::2], fields[1::2], strict=True))
            eid = self._event_id(id)
        except ValueError as error:
            self.log_rarely(
                "left out an entry of {server}: {reason}; there may be more",
                server=self.server,
                reason=str(error),
            )
            return
        self.hub.publish(publication, eid)

    def _event_id(self, id: bytes) -> EventId:
        """The id of the event that an entry is; ValueError for one that only a person can have given it."""
        ms, _, n = id.partition(b"-")
        assert self._tag is not None
        return EventId(int(ms), int(n), self._tag)

    def _let_in(self) -> None:
        """Whoever waited for an event that we have read by now need not wait any more."""
        for waiting, seq in list(self._waiting.items()):
            if seq <= self.hub.ids.last:
                del self._waiting[waiting]
                waiting.callback(None)

    async def _trim(self, link: StreamLink) -> None:
        keep = max(KEPT, self.settings["history-ttl"])
        try:
            await link.trim(max(0, await link.now() - int(keep * 1000)))
        except ResponseError as error:
            self.log_rarely("{server} cannot be trimmed: {reason}", server=self.server, reason=str(error))


def _seq(id: bytes) -> int:
    """The position of an entry."""
    ms, _, n = id.partition(b"-")
    return EventId(int(ms), int(n), "").seq
