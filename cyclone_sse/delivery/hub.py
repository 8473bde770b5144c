"""The interface of delivery: publish events, subscribe clients, end streams.

An event gets its id, is encoded once, goes into the history, and is collected with the other events of this
turn of the reactor; after the turn each subscriber is sent all its events in one write. Brokers and handlers
use nothing else of this package.

Invariants: a client gets the events of its channels in id order, each once, also across a reconnect; a gap
is reported to the client; and a failure for one client affects no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode, encode_gap
from cyclone_sse.delivery.fanout import SLICE, Fanout
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.journal import Journal, Writer, WriterThread
from cyclone_sse.delivery.kinds import read_kinds
from cyclone_sse.delivery.lifecycle import Lifecycle
from cyclone_sse.delivery.presence_feed import PresenceFeed
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.delivery.resume import Resume
from cyclone_sse.errors import Ending


class Hub:
    """All clients of this process, and all events.

    settings: the options. complete: every event there is comes this way from the start, so that a channel
    nobody has listened to yet is known to be complete; else it is so from ``confirmed`` on. reactor: the
    clock and the turns. slice: clients served in one turn.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        complete: bool,
        reactor: Any,
        ids: EventIds | None = None,
        slice: int = SLICE,
    ) -> None:
        self._reactor = reactor
        self.counters = Counters()
        self.ids = ids or EventIds(time.time)
        self.history = History(
            settings["history-size"],
            settings["history-ttl"],
            settings["history-bytes"],
            start=self.ids.last if complete else None,
        )
        self.channels: Channels[Client] = Channels()
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self._fanout = Fanout(self.channels, self.counters, reactor, slice)
        self._resume = Resume(self.history, self.ids, self.counters, reactor.seconds)
        self.lifecycle = Lifecycle(settings, self._fanout, reactor)
        self._kinds_file: str | None = settings["channels"]
        self.kinds = read_kinds(self._kinds_file)
        self.presence = PresenceFeed(self.kinds, settings, self._fanout, reactor)
        self._tick = min(1.0, settings["ping-interval"] / 10) or 1.0  # seconds
        self._ticking = LoopingCall(self._tidy)
        self._ticking.clock = reactor
        self._journal: Journal | None = None
        self._cut_off = 0  # clients, since the log last said so

    # Events.

    def publish(self, publication: Publication, eid: EventId | None = None) -> Event:
        """Send an event to everybody who listens to one of its channels, once to each.

        eid: the id, where another has given it. Raises Unavailable where it could not be kept.
        """
        if self._journal is not None:
            self._journal.check()
        if eid is None:
            eid = self.ids.next()
        else:
            self.ids.follow(eid)
        frame = encode(publication.data, eid, publication.type, publication.retry)
        event = Event(eid, frame, publication.channels)
        now = self._reactor.seconds()
        for channel in event.channels:
            self.history.append(channel, event, now)
        if self._journal is not None:
            self._journal.append(event)
        self._resume.forget_answers()
        self._fanout.add(event)
        self.counters.events += 1
        return event

    @property
    def durable(self) -> bool:
        """What is published survives this process."""
        return self._journal is not None

    def when_written(self) -> Deferred[None] | None:
        """Return a Deferred that fires when everything published so far will survive this process.

        None: there is no history file. It fails with Unavailable if the disk does.
        """
        return None if self._journal is None else self._journal.when_written()

    def open_journal(
        self, path: str, clock: Callable[[], float] = time.time, writer: Writer | None = None
    ) -> None:
        """Fill the history from this file, and from now on keep there what is published.

        To be called before there are clients. clock, writer: see Journal. Raises JournalError.
        """
        self._journal = Journal(
            path,
            self.history,
            self.ids,
            self._reactor,
            clock=clock,
            writer=writer or WriterThread(self._reactor),
        )

    async def close_journal(self) -> None:
        """Write what waits, and accept nothing more."""
        if self._journal is not None:
            await self._journal.close()

    def set_complete(self, channels: Iterable[str]) -> None:
        """Note that from now on no event of these channels will be missing."""
        seq = self.ids.next().seq  # no client has this id: what was before it may be missing
        for channel in channels:
            self.history.raise_floor(channel, seq)
        self._resume.forget_answers()

    def send_gap(self, channels: Iterable[str]) -> None:
        """Note that events of these channels may be missing up to now, and send their clients a gap event."""
        names = set(channels)
        self.set_complete(names)
        moment = self.ids.now()
        frames: dict[tuple[str, ...], bytes] = {}

        def tell(client: Client) -> None:
            if client.skip_until >= moment.seq:
                return  # not yet live: it is told when it comes to this
            frame = frames.get(client.channels)
            if frame is None:
                frame = frames[client.channels] = encode_gap(names.intersection(client.channels), moment)
            client.last_sent_at = self._reactor.seconds()
            client.send(frame)

        self._fanout.each(self.channels.listening(names), tell)

    def reset_ids(self, node: str, last: int) -> None:
        """The source of ids lost them: drop the history, and continue after ``last`` under a new tag.

        Every client is sent a gap event: ids from before do not compare with those to come.
        """
        self.history.clear(last)
        self.ids.reset(node, last)
        self._resume.reset()

        def tell(client: Client) -> None:
            client.skip_until = min(client.skip_until, 0)
            client.last_sent_at = self._reactor.seconds()
            client.send(encode_gap(client.channels, EventId.at(last, node)))

        self._fanout.each(list(self.clients), tell)

    def fill_pattern(self, name: str, matches: Callable[[str], bool]) -> None:
        """Fill the history of a pattern from the channels that it matches."""
        self.history.fill_pattern(name, matches, self._reactor.seconds())
        self._resume.forget_answers()

    def forget(self, channel: str) -> None:
        """Forget the history of a channel that is no longer subscribed to."""
        self.history.forget(channel)
        self._resume.forget_answers()

    # Clients.

    def subscribe(
        self, client: Client, channels: Iterable[str], last_event_id: str | None = None
    ) -> list[str]:
        """Let a client hear these channels (too): first what it missed since that id, then what comes.

        Gives the channels that nobody has listened to before.
        """
        before = client.channels
        first = self.channels.add(client, channels)
        new = client not in self.clients
        if new:
            self.clients[client] = None
            self.counters.subscribes += 1
            client.on_full = self.lifecycle.watch_progress
            self.lifecycle.add(client)
        self.presence.add(client, client.channels[len(before) :])
        if last_event_id:
            self._resume.start(client, last_event_id)
        elif new:
            self._resume.go_live(client)
        return first

    def unsubscribe(self, client: Client, channels: Iterable[str] | None = None) -> list[str]:
        """The reverse, by default for all its channels. Gives those that nobody listens to any more."""
        last = self.channels.remove(client, channels)
        if not client.channels and client in self.clients:
            del self.clients[client]
            self.presence.remove(client)
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
    ) -> int:
        """End the streams of these channels, or of this user; all streams if neither is given.

        over: seconds over which they end, evenly spread. farewell: what each is told before. Gives how many
        there are.
        """
        names = None if channels is None else set(channels)
        clients = list(self.clients) if names is None else self.channels.listening(names)
        if user is not None:
            clients = [client for client in clients if client.user == user]
        self.lifecycle.end(clients, why, over, farewell)
        self.lifecycle.orders.add(names, user)
        return len(clients)

    @property
    def end_orders(self) -> int:
        """How often ``end`` was called; see ``end_if_ordered``."""
        return self.lifecycle.orders.count

    def end_if_ordered(self, client: Client, since: int) -> None:
        """End a client that was being authorised when ``end`` was called for its channels or user.

        since: ``end_orders`` when its authorisation started.
        """
        if self.lifecycle.orders.concern(client, since):
            self.lifecycle.end([client], Ending.ENDED)

    def idle(self) -> Deferred[None]:
        """Fires when everything that was published or asked for has been handed to the clients."""
        return self._fanout.idle()

    def position(self) -> str:
        """The id of the present moment, for a client to come back with."""
        return str(self.ids.now())

    def count_clients(self, channels: Iterable[str]) -> int:
        """How many clients are subscribed to any of these channels."""
        names = list(channels)
        return self.channels.count(names[0]) if len(names) == 1 else len(self.channels.listening(names))

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, and how many."""
        return self.channels.stats()

    # Once in a while.

    def reload_kinds(self) -> None:
        """Read the file of ``--channels`` again. Raises ValueError, and the kinds in use stay."""
        self.kinds = self.presence.kinds = read_kinds(self._kinds_file)

    def start(self) -> None:
        """Begin to look after the clients; called when the reactor runs."""
        self._ticking.start(self._tick, now=False)

    def stop(self) -> None:
        """No pings, ages or forgetting any more."""
        if self._ticking.running:
            self._ticking.stop()

    def _tidy(self) -> None:
        tasks = [self._forget_old, self._send_pings, self.lifecycle.end_overdue, self._log_cut_off]
        if self._journal is not None:
            tasks.append(self._journal.tidy)
        for task in tasks:
            try:
                task()
            except Exception:
                # The others, and the next time, are not to suffer.
                self.log.failure("could not {task}", task=task.__name__.strip("_").replace("_", " "))

    def _forget_old(self) -> None:
        self._resume.forget_answers()
        if self.history.sweep(self._reactor.seconds()):
            self._reactor.callLater(0, self._forget_old)

    def _send_pings(self) -> None:
        self.lifecycle.send_pings(self.ids.now, renew=self.ids.from_elsewhere)

    def _log_cut_off(self) -> None:
        if self._cut_off:
            self.log.info("cut off {n} clients that did not read", n=self._cut_off)
            self._cut_off = 0
