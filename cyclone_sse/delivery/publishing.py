"""Publishing: an event gets its id, is encoded once, is kept, and is passed to the walk over the clients.

It is kept in the history and, with a history file, in the journal; with ``keep`` also as the state of its
channels. Long publications are done in slices, in order. Knows no clients: the fanout serves them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.idempotency import IdempotencyKeys
from cyclone_sse.delivery.journal import Journal
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.delivery.states import States
from cyclone_sse.delivery.writer_thread import Writer, WriterThread
from cyclone_sse.errors import Refusal
from cyclone_sse.log_limit import LogLimit
from cyclone_sse.slices import MANY, Slices, finish, finish_in_turns

EVENTS_PER_TURN = 200  # events that are published in one turn

_NO_ROOM = "there is no room for more states: see --state-bytes"


class Publishing:
    """The way of an event from its publication to the fanout.

    ids: gives each event its id. history, states: keep it. idempotency: the keys, which the journal
    keeps too. fanout: delivers it. patterns: the index of the patterns that are matched here, if any are.
    """

    log = Logger()

    def __init__(
        self,
        ids: EventIds,
        history: History,
        states: States,
        fanout: Fanout,
        *,
        idempotency: IdempotencyKeys,
        counters: Counters,
        reactor: Any,
        patterns: PatternIndex | None = None,
    ) -> None:
        self.ids = ids
        self.history = history
        self.states = states
        self._idempotency = idempotency
        self._fanout = fanout
        self._counters = counters
        self._reactor = reactor
        self._patterns = patterns
        self._log_limit = LogLimit(reactor.seconds)
        self.tasks = Slices(reactor)  # long work that events must not overtake
        self._journal: Journal | None = None

    def publish(self, publication: Publication, eid: EventId | None = None) -> Event:
        """Send an event to the subscribers of its channels, once to each.

        eid: the id, if it was assigned elsewhere. One that is not newer than all before has been published.
        Raises Unavailable if it cannot be written, and Refusal if there is no room for it as a state.
        """
        if self._journal is not None:
            self._journal.check()
        if eid is not None:
            self.ids.follow(eid)
        elif publication.keep:
            finish(self.check_states([publication]))
        return self._publish(publication, eid)

    def publish_all(self, publications: Sequence[Publication]) -> Sequence[str] | Deferred[Sequence[str]]:
        """Publish all of these, in this order. Returns their ids, or a Deferred of them.

        With a history file it fires when all are written. Raises, or fails with, Unavailable; or Refusal if
        there is no room for the states among them.
        """
        if self._journal is not None:
            self._journal.check()  # once for all: a batch is not split
        names, is_wide, keep = 0, False, False
        for each in publications:
            names += len(each.channels)
            is_wide = is_wide or len(each.channels) > MANY
            keep = keep or each.keep
        # States wait for those before them. Without this, two batches could together exceed the bound.
        if len(publications) > EVENTS_PER_TURN or names > MANY or (keep and len(self.tasks)):
            published = self.tasks.result_of(self._publish_in_slices(publications))
            if is_wide:
                # Without this, publishers could send more than is delivered, and other events would wait.
                published.addCallback(lambda ids: self._fanout.idle().addCallback(lambda _: ids))
            if self._journal is not None:
                published.addCallback(self._journal.when_written)
            return published
        if keep:
            finish(self.check_states(publications))
        ids: list[str] = []
        for each in publications:
            ids.append(self._publish(each).id_text)
        return ids if self._journal is None else self._journal.when_written(ids)

    def _publish_in_slices(self, publications: Sequence[Publication]) -> Generator[None, None, Sequence[str]]:
        yield from self.check_states(publications)
        ids: list[str] = []
        done = 0  # events and their channels, in this slice
        for each in publications:
            in_slices = each.keep and len(each.channels) > MANY
            event = self._publish(each, sets_state=not in_slices)
            ids.append(event.id_text)
            if in_slices:
                yield from self._spread_state(event)
            done += 1 + len(each.channels)
            if done >= 2 * EVENTS_PER_TURN:
                done = 0
                yield
        return ids

    def _publish(
        self, publication: Publication, eid: EventId | None = None, sets_state: bool = True
    ) -> Event:
        if eid is None:
            eid = self.ids.next()
        frame = encode(publication.data, eid, publication.type, publication.retry)
        event = Event(eid, frame, publication.channels)
        if eid.seq <= self.history.last:
            return event
        event.excluded = publication.excluded
        event.key = publication.idempotency_key
        if publication.keep and sets_state and self._has_room(publication):
            self._set_state(event)
        self._keep_and_deliver(event, publication.ttl)
        self._counters.events += 1
        return event

    def check_states(self, publications: Sequence[Publication]) -> Generator[None, None, None]:
        """Raise Refusal if there is no room for these as the states of their channels, in slices."""
        if not (yield from self.states.fit_in_slices(publications)):
            raise Refusal(507, _NO_ROOM)

    def _has_room(self, publication: Publication) -> bool:
        """Whether there is room for this as a state. Logs if not: no publisher waits for an answer."""
        fits = self.states.fit([publication])
        if not fits and self._log_limit.acquire(_NO_ROOM):
            self.log.error("states are not kept: {reason}; there may be more", reason=_NO_ROOM)
        return fits

    def restore_state(
        self, channel: str, publication: Publication, eid: EventId, *, is_lost: bool = False
    ) -> None:
        """Set a state that is kept elsewhere, unless the channel has a newer one. is_lost: its event is."""
        if self._has_room(publication):
            frame = encode(publication.data, eid, publication.type, publication.retry)
            self.states.restore(channel, Event(eid, frame))
            if is_lost:
                self.states.without_event.add(eid.seq)

    def clear(self, channels: Iterable[str]) -> Deferred[None] | None:
        """Forget the states and the history of these channels; clients with older ids receive a gap.

        Returns a Deferred where that takes some turns, or has to be written to the history file.
        """
        names = list(channels)
        seq = self.ids.next().seq if not self.ids.from_elsewhere else max(self.ids.last, self.history.last)
        if self._journal is not None:
            self._journal.clear(names, seq)
        cleared = finish_in_turns(self._clear(names, seq), self.tasks)
        if self._journal is None:
            return cleared
        # Without this, a crash after the answer would bring back what was cleared.
        return self._journal.when_written(()).addCallback(lambda _: cleared)

    def _clear(self, names: Sequence[str], seq: int) -> Generator[None, None, None]:
        node = self.ids.node
        for number, name in enumerate(names, 1):
            state = self.states.get(name)
            if state is not None and state.seq <= seq:  # else it is newer than the order
                self.states.clear(name)
            self.history.clear_channel(name, seq)
            if not number % MANY:
                yield
                if self.ids.node != node:
                    return  # ids were reset: everything is cleared, and the position means nothing any more

    def _set_state(self, event: Event) -> None:
        self.states.set(event)
        if self._journal is not None:
            self._journal.set_state(event)

    def _spread_state(self, event: Event) -> Iterator[None]:
        if self._journal is not None:
            self._journal.set_state(event)
        return self.states.spread(event)

    def _keep_and_deliver(self, event: Event, ttl: float | None) -> None:
        """Keep the event in the history and the history file, and send it."""
        now = self._reactor.seconds()
        work: Iterable[None] = ()
        if ttl == 0:
            self.history.skip(event)
            if event.key and self._journal is not None:
                self._journal.append_key(event)  # without this, a restart would forget the key
        else:
            event.ttl = ttl
            if self._journal is not None:
                self._journal.append(event)
            if len(event.channels) > MANY:
                work = self.history.spread(event, now)
            else:
                self.history.append(event, now)
        patterns, names = self._patterns, len(event.channels)
        if names > MANY or (names > 1 and patterns is not None and names * patterns.cost > MANY):
            self._fanout.add_after(chain(work, self._match(event)), event)
            return
        if patterns is not None and names == 1:
            event.patterns = patterns.matching(event.channels[0])
            if event.channels[0] in event.patterns:  # it was published under the name of the pattern itself
                event.patterns = tuple([name for name in event.patterns if name != event.channels[0]])
        elif patterns is not None:
            finish(self._match(event))
        self._fanout.add(event)

    def match_waiting(self) -> Iterator[None]:
        """Find the patterns of the events that wait to be sent once more, in slices: some have been added."""
        for number, event in enumerate(self._fanout.waiting_events, 1):
            yield from self._match(event)
            if not number % EVENTS_PER_TURN:
                yield

    def _match(self, event: Event) -> Generator[None, None, None]:
        """Find the patterns that match the event, in slices."""
        found: dict[str, None] = {}
        if self._patterns is not None and len(self._patterns):
            cost = 0
            for channel in event.channels:
                found.update(dict.fromkeys(self._patterns.matching(channel)))
                cost += self._patterns.cost_of(channel)
                if cost >= MANY:
                    cost = 0
                    yield
        for channel in event.channels if found else ():
            found.pop(channel, None)  # it was published under the name of the pattern itself
        event.patterns = tuple(found)

    @property
    def is_durable(self) -> bool:
        """Whether published events survive this process."""
        return self._journal is not None

    @property
    def trouble(self) -> str | None:
        """Why nothing can be published at present; None if it can."""
        return None if self._journal is None else self._journal.figures().trouble

    def open_journal(
        self, path: str, clock: Callable[[], float] = time.time, writer: Writer | None = None
    ) -> None:
        """Fill the history from this file, and write events that are published from now on to it.

        To be called before there are clients. clock, writer: see Journal. Raises JournalError.
        """
        self._journal = Journal(
            path,
            self.history,
            self.states,
            self.ids,
            self._reactor,
            idempotency=self._idempotency,
            clock=clock,
            writer=writer or WriterThread(self._reactor),
        )

    async def close_journal(self) -> None:
        """Write the waiting events, and accept no more."""
        if self._journal is not None:
            await self._journal.close()

    @property
    def journal_waiting_bytes(self) -> int | None:
        """The bytes of events that are not yet in the history file; None without one."""
        return None if self._journal is None else self._journal.figures().waiting_bytes

    def idle(self) -> Deferred[None]:
        """A Deferred that fires when all events published, and all walks requested, so far are done."""
        return self.tasks.idle().addCallback(lambda _: self._fanout.idle())

    def tidy(self) -> None:
        """Do the periodic work of the journal. Called every second or more often."""
        if self._journal is not None:
            self._journal.tidy()
