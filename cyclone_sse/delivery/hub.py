"""The interface of delivery: publish events, subscribe clients, end streams.

An event is assigned an id, encoded once, kept in the history, and collected with the other events of this
turn of the reactor. After the turn each subscriber is sent all its events in one write. Brokers and handlers
reach the other parts of delivery through its attributes (``publishing``, ``states``, ``presence``).

Invariants: a client receives the events of its channels in id order, each once, also across a reconnect; a
gap is reported to the client; and a failure for one client affects no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from cyclone_sse import slices
from cyclone_sse.counters import Counters
from cyclone_sse.deadlines import grain_for
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import CORKED, NOT_LIVE, RESET, Client, Piece
from cyclone_sse.delivery.end_orders import EndOrders
from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.idempotency import IdempotencyKeys
from cyclone_sse.delivery.kinds import read_kinds
from cyclone_sse.delivery.lifecycle import Lifecycle
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.presence_feed import PresenceFeed
from cyclone_sse.delivery.publishing import Publishing
from cyclone_sse.delivery.rates import Rates
from cyclone_sse.delivery.resume import Resume
from cyclone_sse.delivery.states import States
from cyclone_sse.delivery.stats import StatsTable
from cyclone_sse.delivery.views import Limits
from cyclone_sse.errors import Ending
from cyclone_sse.patterns import is_glob


class Hub:
    """All clients of this process, and all events.

    settings: the options. complete: whether every event passes this hub from the start, so that unknown
    channels are complete; otherwise a channel is complete after ``set_complete``. reactor: the clock and the
    turns. patterns: the index of the patterns that are matched here; None if patterns are subscribed to
    upstream. wall: seconds since the epoch. slice: clients served in one turn.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        complete: bool,
        reactor: Any,
        ids: EventIds | None = None,
        *,
        patterns: PatternIndex | None = None,
        wall: Callable[[], float] = time.time,
        slice: int = slices.SIZE,
    ) -> None:
        self._reactor = reactor
        self.counters = Counters()
        self.idempotency = IdempotencyKeys(settings["idempotency-ttl"], reactor)
        self.ids = ids or EventIds(wall)
        self._settings = settings
        self.kinds = read_kinds(settings["channels"])
        self.rates = Rates()
        start, log_losses = self.ids.last if complete else None, patterns is not None
        self.history = History(self._limits, settings["history-bytes"], start=start, log_losses=log_losses)
        self.channels: Channels[Client] = Channels()
        self.stats_table = StatsTable(self.channels, reactor)
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self._patterns = patterns
        self._fanout = Fanout(self.channels, self.counters, reactor, slice)
        self.states = States(settings["state-bytes"])
        self.publishing = Publishing(
            self.ids,
            self.history,
            self.states,
            self._fanout,
            idempotency=self.idempotency,
            counters=self.counters,
            reactor=reactor,
            patterns=patterns,
        )
        self.publish, self.publish_all = self.publishing.publish, self.publishing.publish_all
        self.idle = self.publishing.idle
        self._resume = Resume(self.history, self.ids, self.counters, reactor, self.states, patterns=patterns)
        self.lifecycle = Lifecycle(settings, self._fanout, reactor, wall)
        # Made once: a bound method for each client would be two objects for each.
        self._on_full, self._on_overflow = self.lifecycle.watch_progress, self._resume.fall_back
        self.end_orders = EndOrders(reactor)
        self.presence = PresenceFeed(self.kinds, settings, self._fanout, reactor)
        self._tick = grain_for(settings["ping-interval"])
        self._ticking = LoopingCall(self._tidy)
        self._ticking.clock = reactor
        self._cut_off = 0  # clients, since the last line in the log
        self._is_forgetting = False  # old events, in several turns

    # Events. `publish` and `publish_all` are those of `Publishing`.

    def _limits(self, channel: str) -> Limits:
        kind = self.kinds.of(channel)
        size, ttl = kind.history_size, kind.history_ttl
        return Limits(
            self._settings["history-size"] if size is None else size,
            self._settings["history-ttl"] if ttl is None else ttl,
        )

    def set_complete(self, channels: Iterable[str]) -> None:
        """Note that no event of these channels is missing from now on."""
        seq = self.ids.next().seq  # no client has this id, so that a client with an older one receives a gap
        for channel in channels:
            self.history.raise_floor(channel, seq)

    def send_gap(self, channels: Iterable[str]) -> None:
        """Note that events of these channels may be missing up to now, and send their clients a gap event."""
        names = frozenset(channels)
        floor = self.ids.next().seq  # as in `set_complete`, but for as many channels as there are
        moment = self.ids.now()
        made: dict[tuple[str, ...], Sequence[bytes]] = {}  # frames, for clients without states
        concerned: dict[Client, None] = {}
        era = self._resume.era

        def collect(name: str) -> None:
            concerned.update(self.channels.of(name))

        def send(client: Client) -> None:
            if self._resume.era != era:
                return  # ids were reset meanwhile: this position means nothing any more
            if client.skip_until >= moment.seq:
                return  # not yet live: it is sent the gap when it comes to this position
            frames = None if client.wants_state else made.get(client.channels)
            if frames is None:
                frames = self._resume.pieces.gap(client, names.intersection(client.channels), moment)
                if not client.wants_state:
                    made[client.channels] = frames
            self._send(client, frames, -floor)

        rising = self.history.rising.start(names, floor)
        if self._patterns is not None:
            slices.finish(rising)  # the log of losses, which clients of patterns read, has no other answer
        else:
            self._fanout.work(rising)
        self._fanout.work(slices.each(names, collect))
        self._fanout.each(concerned, send)

    def reset_ids(self, node: str, last: int, old: int = 0) -> None:
        """Drop the history, since the source of ids has lost it, and continue after ``last`` with a new tag.

        Every client is sent a gap event, since old and new ids cannot be compared; with the same tag, clients
        that are ahead of ``last`` are not: they have missed nothing. old: events up to this position fill the
        history, and are not sent to connected clients, which may have received them with another tag.
        """
        old = max(last, old)
        self.history.clear(last)
        concerned = list(self.clients)
        if node != self.ids.node:
            self.states.clear_all()
        else:
            due = self._resume.due_gap  # these have not been sent the events of this tag
            concerned = [each for each in concerned if each in due or not old < each.skip_until < NOT_LIVE]
        self.ids.reset(node, last, old)
        self._resume.reset(concerned)
        self._fanout.admit_only(frozenset(self.clients))

        moment, era = EventId(old, node), self._resume.era

        def send(client: Client) -> None:
            if self._resume.era == era:
                # Without this, a client that has fallen back meanwhile would be sent the same events twice.
                self._resume.stop(client)
            # Else ids were reset again, and a client that has fallen back is live from that gap on. Without
            # this, any other would be sent a second time what was read again between the two resets.
            if self._resume.era == era or client.skip_until != NOT_LIVE:
                client.skip_until = old if old > last else 0
            self._send(client, self._resume.pieces.gap(client, client.channels, moment), RESET)

        self._fanout.each(concerned, send)

    def _send(self, client: Client, frames: Sequence[bytes], seq: int) -> None:
        """Send a gap, and the states after it, as frames of one position: they are dropped together."""
        self._resume.send(client, Piece(frames, (seq,) * len(frames)))

    def forget(self, channel: str) -> None:
        """Forget the history of a channel that is no longer subscribed to."""
        self.history.forget(channel)

    # Clients.

    def subscribe(
        self, client: Client, channels: Iterable[str], last_event_id: EventId | str | None = None
    ) -> list[str]:
        """Subscribe a client to these channels too: it is sent the events after that id, then new ones.

        A client that is not open yet is sent the missed events of all its channels when it opens. Returns the
        channels that had no subscribers before.
        """
        is_new = client not in self.clients
        if is_new:
            self._register(client)
        before = client.channels
        first = self.channels.add(client, channels)
        if self._patterns is not None:
            for name in filter(is_glob, first):
                self._patterns.add(name)
        if is_new and not (last_event_id or client.wants_state):
            self._resume.go_live(client, self.ids.old)
        added = client.channels[len(before) :]
        self.presence.add(client, added)
        if not is_new and client.state is not CORKED:
            self._add_past(client, added, last_event_id)
        else:
            start = self._resume.start_with_states if client.wants_state and is_new else None
            if last_event_id:
                unknown = (
                    [name for name in added if self.history.floor(name) is None] if client.is_poll else ()
                )
                if unknown:
                    # Without this, each poll would be sent the same gap, until the upstream is back.
                    self.set_complete(unknown)
                client.last_event_id = last_event_id
                start = self._resume.start
            if client.state is CORKED:
                client.on_open = start or client.on_open
            elif start is not None:
                start(client)
        return first

    def _add_past(self, client: Client, channels: Sequence[str], last_event_id: EventId | str | None) -> None:
        """Send a client that is open the events of these new channels after that id, if there is one."""
        if last_event_id:
            # Without this, the walk could send it events that are sent as missed ones, too.
            self._fanout.leave_out(client, channels)
            if self._patterns is not None and any(map(is_glob, channels)):
                # Without this, what waits since before a pattern was added would be missing.
                self._fanout.work_next(self.publishing.match_waiting())
        past = self._resume.add(client, channels, last_event_id, lambda: self._fanout.first_waiting)
        if past is not None:
            self._fanout.work_next(past)

    def _register(self, client: Client) -> None:
        self.clients[client] = None
        self.counters.subscribes += 1
        client.opened_at = self._reactor.seconds()
        client.on_full, client.on_overflow = self._on_full, self._on_overflow
        self.lifecycle.add(client)

    def unsubscribe(self, client: Client, channels: Iterable[str] | None = None) -> list[str]:
        """Unsubscribe a client from these channels, by default all. Returns those without subscribers now."""
        last = self.channels.remove(client, channels)
        if self._patterns is not None:
            for name in filter(is_glob, last):
                self._patterns.discard(name)
        self.presence.remove(client)
        self._resume.remove(client)
        if not client.channels and client in self.clients:
            del self.clients[client]
            self.lifecycle.remove(client)
            ending = client.ending or Ending.LEFT
            self.counters.disconnects[ending.value] += 1
            self._cut_off += ending in (Ending.SLOW, Ending.STALLED)
        return last

    def end(
        self,
        why: Ending,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        over: float = 0.0,
        farewell: Callable[[], bytes] | None = None,
    ) -> int | Deferred[int]:
        """End the streams of these channels, or of this user; all streams if neither is given.

        over: seconds over which they are ended, evenly spread. farewell: returns the last bytes for each
        client. Returns their number, or a Deferred where it takes some turns to find them.
        """
        names = None if channels is None else set(channels)
        self.end_orders.add(names, user)

        def end() -> Generator[None, None, int]:
            clients = yield from self._find_clients(names, user)
            self.lifecycle.end(clients, why, over, farewell)
            return len(clients)

        return slices.finish_in_turns(end(), self.publishing.tasks)

    def _find_clients(
        self, names: Collection[str] | None, user: str | None
    ) -> Generator[None, None, list[Client]]:
        """The clients of these channels, or of all, and of this user, or of all, in slices."""
        found: dict[Client, None] = {}
        if names is None:
            found.update(self.clients)
        looked_at = 0
        for name in names or ():
            subscribers = self.channels.of(name)
            looked_at += 1 + len(subscribers)
            found.update(subscribers)
            if looked_at >= slices.MANY:
                looked_at = 0
                yield
        if user is None:
            return list(found)
        clients = []
        for number, client in enumerate(found, 1):
            if client.user == user:
                clients.append(client)
            if not number % slices.MANY:
                yield
        return clients

    def end_if_ordered(self, client: Client, since: int) -> None:
        """End a client that was being authorised when ``end`` was called for its channels or user.

        since: the count of ``end_orders`` when its authorisation started.
        """
        if self.end_orders.concern(client, since):
            self.lifecycle.end([client], Ending.ENDED)

    def position(self) -> str:
        """The id of the present moment, from which a client can resume."""
        return str(self.ids.present())

    def slow_clients(self) -> list[Client]:
        """The clients for which bytes wait, or waited a moment ago."""
        return self.lifecycle.slow_clients()

    def count_in_slices(self, channels: Iterable[str]) -> Generator[None, None, int]:
        """Count the clients that are subscribed to any of these channels, in slices."""
        found: dict[Client, None] = {}
        for number, name in enumerate(channels, 1):
            found.update(self.channels.of(name))
            if not number % slices.MANY:
                yield
        return len(found)

    @property
    def longest_ttl(self) -> float:
        """The longest time, in seconds, for which a channel keeps events."""
        return float(max(self._settings["history-ttl"], self.kinds.longest_ttl))

    def stats(self) -> list[tuple[str, int]]:
        """The channels that have subscribers, with their numbers."""
        return self.channels.stats()

    # Periodic work.

    def reload_kinds(self) -> None:
        """Read the file of ``--channels`` again. Raises ValueError, and the kinds in use stay."""
        self.kinds.replace(read_kinds(self._settings["channels"]))
        self.publishing.tasks.put(self.history.renew_limits())
        self.presence.renew(list(self.clients))

    def start(self) -> None:
        """Start pinging and ending clients, and dropping old events; called when the reactor runs."""
        self._ticking.start(self._tick, now=False)

    def stop(self) -> None:
        """Stop pinging and ending clients, and dropping old events."""
        if self._ticking.running:
            self._ticking.stop()

    def _tidy(self) -> None:
        tasks = [
            self._forget_old,
            self._send_pings,
            self.lifecycle.end_overdue,
            self.end_orders.forget_old,
            self._log_cut_off,
            self.idempotency.forget_old,
            self.publishing.tidy,
        ]
        for task in tasks:
            try:
                task()
            except Exception:
                # Without this, the tasks after it would be left out, and the loop would end.
                self.log.failure("the periodic call of {task} failed", task=task.__qualname__)

    def _forget_old(self) -> None:
        if not self._is_forgetting:
            self._forget_some()

    def _forget_some(self) -> None:
        self._is_forgetting = self.history.forget_old(self._reactor.seconds()) or self.history.is_overfull
        if self._is_forgetting:
            self._reactor.callLater(0, self._forget_some)

    def _send_pings(self) -> None:
        self.lifecycle.send_pings(self.ids.now, renew=self.ids.from_elsewhere)

    def _log_cut_off(self) -> None:
        if self._cut_off:
            self.log.info("cut off {n} clients that did not read", n=self._cut_off)
            self._cut_off = 0
