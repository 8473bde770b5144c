"""The walk over the clients, for events, gaps, pings and endings.

A walk over very many clients is done in slices, with a turn of the reactor between two of them. There is one
queue of walks, and each walk is finished before the next starts. Without this a client could be sent a later
event before an earlier one.

The loops of ``_send_to_alike`` and ``_send_to_each`` are the fast path of this server. They must add next to
nothing to the kernel's ``send()``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import repeat
from operator import attrgetter
from socket import socket as Socket

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from cyclone_sse import slices
from cyclone_sse.counters import Counters
from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import GONE, Client, Sent
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.turn import Turn

_MANY = 50  # clients; with fewer, finding out whether they are alike costs more than it saves
_DOUBLE = 32 * 1024  # bytes with which a send costs twice as much as a short one
_NOT_SENT = -1  # in place of the number of bytes, where `send` raised

_FIELDS = attrgetter("fields")
_READY_SOCKET = attrgetter("ready_socket")
_SKIP_UNTIL = attrgetter("skip_until")


class Fanout:
    """Collects the events of a turn, then walks over their subscribers.

    registry: the subscribers of each channel. reactor: the clock, and its turns. slice: clients served in a
    turn.
    """

    log = Logger()

    def __init__(
        self, registry: Channels[Client], counters: Counters, reactor: IReactorTime, slice: int = slices.SIZE
    ) -> None:
        self._registry = registry
        self._counters = counters
        self._reactor = reactor
        self._slice = slice
        self._turn: Turn | None = None  # collects events; its walk has not started
        self._walking: Turn | None = None  # its walk is under way
        self._waiting: dict[Turn, None] = {}  # turns whose walks have not started
        self._walks = slices.Slices(reactor)

    def add(self, event: Event) -> None:
        """Send the event to the subscribers of its channels, after this turn of the reactor."""
        if self._turn is None:
            self._turn = Turn(self._reactor.seconds())
            self._waiting[self._turn] = None
            self._walks.put(self._serve(self._turn))
        self._turn.events.append(event)

    def add_after(self, work: Iterator[None], event: Event) -> None:
        """Do the work in slices, then send the event, before all events that are published later."""
        turn = Turn(self._reactor.seconds())
        turn.events.append(event)
        self._waiting[turn] = None
        self.work(work)
        self._walks.put(self._serve(turn))  # what `work_next` adds during the work is done before this

    def each(self, clients: Iterable[Client], step: Callable[[Client], object]) -> None:
        """Call step with each of these clients, after all earlier walks.

        The clients are read when this walk starts.
        """
        self.work(slices.each(clients, step, self._slice))

    def work(self, work: Iterator[None]) -> Deferred[None]:
        """Do this work in slices, after all earlier walks."""
        self._turn = None  # later events are for a later walk
        return self._walks.add(work)

    def work_next(self, work: Iterator[None]) -> None:
        """Do this work in slices, before the walks that have not started; at once if none is under way."""
        if self._walks.has_begun or next(work, work) is None:
            self._walks.put_next(work)

    def leave_out(self, client: Client, channels: Iterable[str]) -> None:
        """Send the client nothing of these channels within the walk that is under way, if there is one."""
        if self._walking is not None:
            self._walking.leave_out(client, channels)

    def admit_only(self, clients: Collection[Client]) -> None:
        """Send the events so far only to these clients, since ids were reset.

        Without this, a client that connects before they are sent would receive them with an id that is lost.
        """
        for turn in (*self._waiting, *filter(None, (self._walking,))):
            turn.admitted = clients if turn.admitted is None else turn.admitted

    @property
    def first_waiting(self) -> float:
        """The position of the first event whose walk has not started; infinite if there is none."""
        return next((turn.events[0].seq for turn in self._waiting), float("inf"))

    @property
    def waiting_events(self) -> list[Event]:
        """The events whose walks have not started."""
        return [event for turn in self._waiting for event in turn.events]

    def idle(self) -> Deferred[None]:
        """A Deferred that fires when all walks requested so far are finished."""
        self._turn = None  # later events are for a later walk
        return self._walks.idle()

    def _serve(self, turn: Turn) -> Iterator[None]:
        """Walk over all clients that are due some events of this turn."""
        if self._turn is turn:
            self._turn = None
        del self._waiting[turn]
        self._walking = turn
        served = 0
        for group in turn.groups(self._registry):
            if group is None:
                yield
                continue
            clients, batch = group
            if turn.admitted is not None:
                clients = [client for client in clients if client in turn.admitted]
            served += len(batch.events) // 4  # joining their frames takes time too
            cost = 1 + len(batch.plain.data) // _DOUBLE
            if served + len(clients) * cost < self._slice:  # the usual case: they need not be cut into parts
                self._send(clients, batch)
                served += len(clients) * cost
                continue
            left = 0
            while left < len(clients):
                part = clients[left : left + max(1, (self._slice - served) // cost)]
                self._send(part, batch)
                left += len(part)
                served += len(part) * cost
                if served >= self._slice:
                    served = 0
                    yield
        self._walking = None
        self._counters.fanout_seconds.observe(self._reactor.seconds() - turn.published_at)

    def _send(self, clients: Sequence[Client], batch: Batch) -> None:
        now = self._reactor.seconds()
        apart: list[Client] = []  # those due other events, those that render them, and those without room
        if len(clients) >= _MANY:
            alike, clients = _alike_and_others(clients, batch)
            if alike:
                apart = self._send_to_alike(alike, batch, now)
        if clients:
            apart += self._send_to_each(clients, batch, now)
        for client in apart:
            self._send_apart(client, batch, now)

    def _send_to_alike(self, clients: Sequence[Client], batch: Batch, now: float) -> list[Client]:
        """Send all the events to clients that are alike; returns those to which it failed.

        `map` runs the loop in C: apart from the kernel's work, it costs four fifths of what a loop in Python
        costs.
        """
        try:
            data, frames = batch.rendering_for(clients[0])
        except Exception:
            return list(clients)  # `_send_apart` fails for each again, and logs that
        # Read before the loop: within it, each `send` displaces the next clients from the processor's cache.
        sockets = list(map(_READY_SOCKET, clients))
        sends = map(Socket.send, sockets, repeat(data))
        sent: list[int] = []  # bytes, to each client
        while True:
            try:
                sent.extend(sends)
                break
            except Exception:
                # CPython's `extend` keeps the items before the exception; `sends` goes on with the next.
                sent.append(_NOT_SENT)
        for client in clients:
            client.last_sent_at = now
        not_sent: list[Client] = []
        if sent.count(len(data)) != len(clients):
            for client, size in zip(clients, sent, strict=True):
                if size == _NOT_SENT:
                    not_sent.append(client)
                elif size != len(data):
                    self._queue_rest(client, frames, batch.seqs, size)
        served = len(clients) - len(not_sent)
        self._counters.deliveries += served * len(batch.seqs)
        self._counters.sent_bytes += served * len(data)
        return not_sent

    def _queue_rest(self, client: Client, frames: Sequence[bytes], seqs: Sequence[int], sent: int) -> None:
        try:
            client.queue_rest(frames, seqs, sent)
        except Exception:
            self.log.failure("could not send events to a client")

    def _send_to_each(self, clients: Sequence[Client], batch: Batch, now: float) -> list[Client]:
        """Send all the events to these clients; returns those that `_send_apart` must serve."""
        apart: list[Client] = []
        excluded: list[Client] = []
        if batch.excluded:
            excluded = [client for client in clients if client.client_id in batch.excluded]
            clients = [client for client in clients if client.client_id not in batch.excluded]
        first, seqs = batch.seqs[0], batch.seqs
        data, frames = batch.plain
        length = len(data)
        # The `fields` of the clients that share these bytes; None: they are for one client alone.
        rendered_for: bool | None = False
        failed = size = 0
        for client in clients:
            socket = client.ready_socket
            if socket is None or client.skip_until >= first:
                apart.append(client)
                continue
            try:
                if client.fields is not rendered_for:
                    data, frames = batch.rendering_for(client)
                    length = len(data)
                    is_shared = batch.has_one_name or not client.fields
                    rendered_for = client.fields if is_shared else None
                written = socket.send(data)
            except OSError:
                apart.append(client)  # it has no room or has left; its `send` handles both
                continue
            except Exception:
                self.log.failure("could not send events to a client")
                failed += 1
                continue
            client.last_sent_at = now
            size += length
            if written != length:
                self._queue_rest(client, frames, seqs, written)
        sent = len(clients) - len(apart) - failed  # counted once: in the loop it would cost each client
        self._counters.deliveries += sent * len(seqs)
        self._counters.sent_bytes += size
        return apart + excluded

    def _send_apart(self, client: Client, batch: Batch, now: float) -> None:
        """Send a client that the loops leave out those of the events that are for it, now or later."""
        due = [
            event
            for event in batch.events
            if event.seq > client.skip_until and not event.excludes(client.client_id)
        ]
        if not due or client.state is GONE:
            return
        client.last_sent_at = now
        try:
            if client.shares_frames:
                sent = self._send_shared(client, batch if len(due) == len(batch.events) else Batch(due))
            else:
                sent = client.deliver(due)
        except Exception:
            # A custom sendEvent may raise anything. Without this, the clients after it would be left out.
            self.log.failure("could not send events to a client")
        else:
            self._counters.deliveries += sent.events
            self._counters.sent_bytes += sent.bytes

    def _send_shared(self, client: Client, batch: Batch) -> Sent:
        data, frames = batch.rendering_for(client)
        client.send(data, frames, batch.seqs)
        return Sent(0, 0) if client.state is GONE else Sent(len(batch.events), len(data))


def _alike_and_others(clients: Sequence[Client], batch: Batch) -> tuple[Sequence[Client], Sequence[Client]]:
    """Those that are due all the events, as the same bytes, over sockets without TLS; and the others."""
    first, excluded = batch.seqs[0], batch.excluded
    sockets = set(map(type, map(_READY_SOCKET, clients)))
    with_names = sum(map(_FIELDS, clients))
    fields = 2 * with_names > len(clients) and batch.has_one_name
    if Socket not in sockets or (with_names == len(clients) and not fields):
        return (), clients
    if (
        sockets == {Socket}
        and max(map(_SKIP_UNTIL, clients)) < first
        and with_names == (len(clients) if fields else 0)
        and not excluded
    ):
        return clients, ()
    alike: list[Client] = []
    others: list[Client] = []
    for client in clients:
        is_alike = (
            # Exactly this type: an SSLSocket is a socket too, and `Socket.send` would not encrypt.
            type(client.ready_socket) is Socket
            and client.skip_until < first
            and client.fields is fields
            and client.client_id not in excluded
        )
        (alike if is_alike else others).append(client)
    return alike, others
