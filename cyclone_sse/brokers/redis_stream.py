"""The broker redis-stream: all entries of one Redis stream, with the ids that Redis assigns.

All instances read the same stream, so that an event has the same id on each of them, and a client that moves
to another server resumes exactly where it was. Clients are served from memory, which is filled from the
stream before the port opens. After Redis was away, reading continues after the last id, and no event is lost.

If events are lost nevertheless, the clients receive a gap. Another tag shows that the stream was deleted and
replaced; other losses are detected by ``Position``, and a stream that was written again is given another tag.

Each lot has a survey of the stream at the same moment, so that nothing has to be guessed. Any client of Redis
may write to the stream: malformed entries are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.brokers.base import channels_to_clear
from cyclone_sse.brokers.carried import ALL_FIELDS
from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.redis_link import ResponseError
from cyclone_sse.brokers.redis_server import redis_server
from cyclone_sse.brokers.redis_stream_arrivals import Arrivals
from cyclone_sse.brokers.redis_stream_link import Lot, StreamEntry, StreamLink
from cyclone_sse.brokers.redis_stream_position import BEGINNING, Acknowledged, Position, Survey, seq_of
from cyclone_sse.brokers.redis_stream_states import StreamStates
from cyclone_sse.brokers.upstream import UpstreamBroker
from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Unavailable
from cyclone_sse.patterns import canonical_glob, is_glob
from cyclone_sse.slices import each, finish_in_turns

READ_WAIT = 5.0  # seconds that Redis waits for an entry before it answers that there is none
FIRST_LOT = 16  # entries
MAX_LOT = 500  # entries read at a time, at the most: some milliseconds of work
LOT_BYTES = 1 << 20  # bytes read at a time, about
LOT_WORDS = 10_000  # fields and values read at a time: about 15 ms, where they are names of channels
TRIM_INTERVAL = 10.0  # seconds
MIN_KEPT = 60.0  # seconds that entries are kept at least, for servers that are behind
BEFORE_FIRST = 1  # a position before that of every event


class RedisStreamBroker(UpstreamBroker[StreamLink]):
    """Reads one Redis stream, and adds POSTed publications to it."""

    lingers = False
    matches_patterns = True
    open_patterns = False
    has_heartbeat = False  # not needed: the stream that is read is the one that is written
    carries = ALL_FIELDS

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime | None = None) -> None:
        super().__init__(settings, "redis-stream", reactor, ids=EventIds(None))
        redis = redis_server(self.settings, self.reactor)
        self._redis = redis
        self.longest_retry = redis.longest_retry
        self._stream: str = self.settings["redis-stream"]
        self._kind = partial(
            StreamLink,
            self._stream,
            self.settings["redis-stream-size"],
            self.settings["idempotency-ttl"],
        )
        self.server = f"stream {self._stream!r} of {redis.name}"
        self._caught_up: Deferred[None] = Deferred()
        self._tag: str | None = None  # of the stream that we read; None before the first
        self._position = Position()
        self._acknowledged = Acknowledged(self.settings["redis-stream-size"])
        self.lag: int | None = None  # entries that are not read yet, if Redis reports them (from 7.0 on)
        self._furthest = 0  # the greatest position that was read, also of streams that another has replaced
        self._lot = FIRST_LOT  # entries to read next
        self._states = StreamStates(self._log_states)
        self._obeyed = 0  # the position up to which orders have been carried out
        self._next_trim = 0.0
        self._arrivals = Arrivals(lambda: self.hub.ids.last, self.slices, self.reactor)

    def is_pattern(self, channel: str) -> bool:
        """Whether the name stands for many channels."""
        return is_glob(channel)

    def canonical(self, pattern: str) -> str:
        """Write each run of stars as one."""
        return canonical_glob(pattern)

    def open_link(self, publishing: bool) -> Deferred[Any]:
        """Connect; both connections are of one class."""
        return self._redis.open(self._kind)

    def connect(self) -> Deferred[None]:
        """Connect. The Deferred fires when the entries that the stream had at the start have been read."""
        super().connect()
        return self._caught_up

    def publish_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        """Add these to the stream. The Deferred fires with the ids of the events when Redis has them."""
        checked = finish_in_turns(self.hub.publishing.check_states(publications), self.slices)
        if isinstance(checked, Deferred):
            return checked.addCallback(lambda _: self._add_all(publications))
        return self._add_all(publications)

    def _add_all(self, publications: Sequence[Publication]) -> Deferred[Any]:
        return super().publish_all(publications).addCallback(self._event_ids, publications)

    def _event_ids(self, ids: Sequence[bytes], publications: Sequence[Publication]) -> Sequence[str]:
        self._acknowledged.add(ids, self._position.seq)
        event_ids = [f"{id.decode()}-{self._tag}" for id in ids]
        if self.hub.kinds:
            # Without this, a second attempt would count against publish_rate: only Redis knows the key.
            self.hub.idempotency.note(publications, event_ids)
        return event_ids

    def ready(
        self, channels: Sequence[str], last_event_id: EventId | str | None = None
    ) -> Deferred[Any] | None:
        """Wait if the client has received events from another server that this one has not yet read."""
        self.check_patterns(self.canonical_names(channels))
        eid = EventId.parse(last_event_id) if isinstance(last_event_id, str) else last_event_id
        if eid is None or eid.node != self._tag or eid.seq <= self.hub.ids.last:
            return None
        return self._arrivals.wait_for(eid.seq).addErrback(lambda _: None)

    def control(self, order: Mapping[str, Any]) -> Deferred[int]:
        """Carry the order out everywhere; one to forget channels is carried out when it is read.

        That fails with Unavailable if the order is not published, or not read here in time.
        """
        names = channels_to_clear(order)
        if names is None:
            return super().control(order)
        return Deferred.fromCoroutine(self._clear_everywhere(order, names))

    async def _clear_everywhere(self, order: Mapping[str, Any], channels: Sequence[str]) -> int:
        count = self.obey({**order, "clear": None})
        text = self.encode_order(order)
        id = await self._publishing.run(lambda link: link.publish_clear(text, channels), len(text))
        if seq_of(id) > self.hub.ids.last:
            try:
                # Without this, a client that connects after the answer would be sent cleared events.
                await self._arrivals.wait_for(seq_of(id))
            except TimeoutError:
                raise Unavailable("the channels have not been cleared yet", "unknown") from None
        await self._finish_clearing()
        return await count if isinstance(count, Deferred) else count

    async def _finish_clearing(self) -> None:
        """Wait until the orders to forget channels that have been read are carried out."""
        await self.hub.publishing.tasks.idle()

    async def check_server(self) -> None:
        """Find out whether the sentinels name another master by now."""
        await self._redis.check(self.current_links())

    async def check_publisher(self, publisher: StreamLink) -> str | None:
        """The reason why Redis accepts no entries; None if it does."""
        return await publisher.refusal()

    # Reading.

    async def set_up(self, link: StreamLink) -> None:
        """Find our place in the stream, and read up to the present."""
        if self.only_checks:
            await link.check()
        while not self.only_checks and await self.read_lot(link):
            pass
        await self._finish_clearing()
        if not self._caught_up.called:
            self._caught_up.callback(None)

    async def run(self, link: StreamLink) -> None:
        """Read entries until the connection is lost."""
        more = False
        while link.lost is None and not self.only_checks:
            try:
                more = await self.read_lot(link, 0 if more else READ_WAIT)
            except ResponseError as error:  # it has become another kind of key, say
                link.abort(error)
                return
            if self.reactor.seconds() >= self._next_trim:
                self._next_trim = self.reactor.seconds() + TRIM_INTERVAL
                await self._trim(link)

    async def read_lot(self, link: StreamLink, wait: float = 0) -> bool:
        """Read one lot and publish it. Returns whether more may follow at once."""
        lot = await link.read(self._position.last, self._lot, wait)
        if lot.tag is None or lot.survey is None:
            await link.claim()
            return True
        tag, is_ours = lot.tag, lot.tag == self._tag
        if tag in self.hub.ids.former or (is_ours and self._has_lost(lot, lot.survey)):
            # Without this, a client that was away would not be told of what was lost, or was in another
            # stream meanwhile.
            tag = await link.claim(renew=True)
        if self._tag is None:
            await self._start_at_oldest(link, tag, lot.survey)
            return True
        if tag != self._tag:
            await self._change(link, tag, lot.survey, lot.holds)
            lost = "the newest entries of {server} were lost"
            other = "{server} was lost: another stream continues in its place"
            self.log.error(lost if is_ours else other, server=self.server)
            return True
        await self._find_trimmed(link, lot.survey)
        self._publish_entries(lot)
        await self._states.write(link)
        if (lag := self._position.lag(lot.survey)) is not None:
            self.lag = lag
        return not lot.complete

    def _has_lost(self, lot: Lot, survey: Survey) -> bool:
        """Whether our stream has lost entries that we have read, or have added."""
        if self._position.was_rewritten(survey, lot.holds):
            return True
        if not self._acknowledged.pop_read([id for id, _ in lot.entries], survey):
            return False
        if self._publishing.link is not None:
            # Without this, it might go on to add entries to a server that is no longer the master.
            self._publishing.link.abort(ConnectionLost("an entry that it has added is lost"))
        return True

    async def _change(self, link: StreamLink, tag: str, survey: Survey, holds: bool) -> None:
        """Continue with a stream that has another tag than ours had."""
        if seq_of(survey.last) < self._position.seq:
            await self._start_at(link, tag, survey.last, seq_of(survey.last), count=survey.added)
        elif holds and self._position.last != BEGINNING:
            # Another server found that it had gone back.
            await self._start_at(link, tag, self._position.last, self._position.seq)
        else:
            await self._start_at_oldest(link, tag, survey)

    async def _start_at_oldest(self, link: StreamLink, tag: str, survey: Survey) -> None:
        """Read the stream from where the history's time begins.

        Clients that are connected are not sent what they have had. Without this, a stream that was renamed
        and is back, or whose lost end another server has found first, would be sent a second time.
        """
        oldest = max(0, await link.now() - int(self.hub.longest_ttl * 1000))
        before = await link.last_before(b"%d-0" % oldest) if oldest else None
        count = None if survey.added is None else survey.added - survey.length
        last = seq_of(survey.last)
        old = min(self._furthest, last)
        self._obeyed = last if self._tag is None else old
        await self._keep_older_states(link, max(old, seq_of(before or BEGINNING)))
        if before is not None:
            floor, count = seq_of(before), None  # nothing lies between this one and what we read
        elif survey.first is None:
            floor = seq_of(survey.last)
        elif survey.added == survey.length:
            floor = BEFORE_FIRST  # nothing was ever trimmed
        else:
            floor = seq_of(survey.first) - 1
        after = before or (survey.last if survey.first is None else BEGINNING)
        await self._start_at(link, tag, after, floor, count=count, old=old)

    async def _keep_older_states(self, link: StreamLink, last: int) -> None:
        """Read the states of entries up to this position, which clients are not sent as live events.

        Without this, those that other programs added while no server was running, or after a failover had
        lost the end of the stream, would be missing.
        """
        after, is_over = BEGINNING, not last
        while not is_over:
            lot = await link.read(after, MAX_LOT)
            older = [entry for entry in lot.entries if seq_of(entry[0]) <= last]
            for _ in each(older, self._keep_state):
                pass  # an entry that fails is logged, and left out
            await self._states.write(link)
            after = older[-1][0] if older else after
            is_over = lot.complete or len(older) < len(lot.entries)

    def _keep_state(self, entry: StreamEntry) -> None:
        id, fields = entry
        publication = self._read_entry(id, fields)
        if publication is not None and publication.keep:
            self._states.add(id, publication)

    async def _start_at(
        self,
        link: StreamLink,
        tag: str,
        after: bytes,
        floor: int,
        *,
        count: int | None = None,
        old: int | None = None,
    ) -> None:
        """Continue after this entry, with the states that are kept beside the stream.

        floor: events before it are not known. old: events up to it are not sent to clients that are
        connected; by default those that were to be read again anyway.
        """
        # Without these, a state would stay whose order to clear is lost.
        states = await self._states.read(link)
        survey = await link.survey()
        self._tag, self._position = tag, Position(after, count)
        self._acknowledged.clear()
        floor = max(floor, BEFORE_FIRST)
        if old is None:
            # Without this, a loss that is found while entries are read again would send all that are left of
            # them to connected clients a second time.
            old = min(self.hub.ids.old, seq_of(survey.last))
            self._obeyed = max(floor, old)
        self.hub.reset_ids(tag, floor, old)
        if states is not None:
            self.hub.states.clear_all()
        for channel, id, state in states or ():
            eid = EventId(seq_of(id), tag)
            self.hub.publishing.restore_state(channel, state, eid, is_lost=not survey.may_hold(eid.seq))

    async def _find_trimmed(self, link: StreamLink, survey: Survey) -> None:
        """Tell all clients of the gap if entries after our position were trimmed before they were read."""
        if not self._position.was_trimmed(survey):
            return
        self.log.error("{server} was trimmed before it was read", server=self.server)
        assert self._tag is not None
        position = self._position.after_trimming(survey)
        floor = seq_of(survey.last) if survey.first is None else seq_of(survey.first) - 1
        await self._start_at(link, self._tag, position.last, floor, count=position.count)

    def _publish_entries(self, lot: Lot) -> None:
        size = words = 0
        for id, fields in lot.entries:
            try:
                self._publish_entry(id, fields)
            except Exception:
                # It would end the connection, and on the next one all before it would be sent once more.
                self.log.failure("could not publish an entry of {server}", server=self.server)
            size += sum(map(len, fields))
            words += len(fields)
        count = len(lot.entries)
        if count:
            fits = min(LOT_BYTES * count // max(size, 1), LOT_WORDS * count // max(words, 1))
            self._lot = max(1, min(MAX_LOT, max(FIRST_LOT, 2 * count), fits))
            self._arrivals.release()
        ids = [id for id, _ in lot.entries]
        self._position = self._position.after_reading(ids, lot.survey if lot.complete else None)
        self._furthest = max(self._furthest, self._position.seq)

    def _publish_entry(self, id: bytes, fields: Sequence[bytes]) -> None:
        assert self._tag is not None
        eid = EventId(seq_of(id), self._tag)
        # Without this, a client would receive a gap when an entry is trimmed that publishes nothing, and an
        # order to clear would leave clients with older ids without one.
        self.hub.ids.follow(eid)
        publication = self._read_entry(id, fields)
        if publication is not None:
            if publication.keep:
                self._states.add(id, publication)
            self.hub.publish(publication, eid)

    def _read_entry(self, id: bytes, fields: Sequence[bytes]) -> Publication | None:
        """Return the publication in an entry, or obey its order; None also for a malformed entry."""
        try:
            names, values = fields[::2], fields[1::2]
            if b"control" in names:
                order = self.decode_order(values[names.index(b"control")])
                if order is not None:
                    self._obey_entry(id, order)
                return None
            publication = Publication.from_entry(zip(names, values, strict=True))
            self.check_size(publication.data)
        except ValueError as error:
            self.log_rarely(
                "skipped an entry of {server}: {reason}; there may be more",
                server=self.server,
                reason=str(error),
            )
            return None
        return publication

    def _obey_entry(self, id: bytes, order: Mapping[str, Any]) -> None:
        """Carry out the order of an entry. One to forget channels counts always, in its place in the stream.

        Without this, this server's own order, or one from before its start, would leave the states of entries
        that are read before it.
        """
        names = channels_to_clear(order)
        if names is not None:
            self._states.clear(id, names)
        if seq_of(id) > self._obeyed and not self.is_own(order):
            self.obey(order)
        elif names is not None:
            self.clear(names)

    def _log_states(self, error: Exception) -> None:
        self.log_rarely(
            "the states of {server} are not kept: {reason}", server=self.server, reason=str(error)
        )

    async def _trim(self, link: StreamLink) -> None:
        keep = max(MIN_KEPT, self.hub.longest_ttl)
        try:
            await link.trim(max(0, await link.now() - int(keep * 1000)))
        except (NotAllowed, ResponseError) as error:
            self.log_rarely("{server} cannot be trimmed: {reason}", server=self.server, reason=str(error))
