"""When clients are pinged, and when and why their streams end.

Pings, ages and stalls are deadlines in buckets, so only clients that are due are looked at. What is sent to a
client in between moves nothing here: a client whose ping is due is asked when it was last sent something.

A client may be authorised before an order to end streams, and open its stream after it. So the last orders
are remembered, and such a client is ended as well: it reconnects and is authorised again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.delivery.client import NOT_LIVE, Client, State
from cyclone_sse.delivery.end_orders import EndOrders
from cyclone_sse.delivery.events import PING, EventId, encode_expired, id_line
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.errors import Ending

_AGE_SPREAD = 0.1  # streams that opened together end within a tenth of their age, not at once
_JUMP = 1.0  # seconds by which the wall clock must run ahead of the reactor's to be noticed
_STEP = 0.05  # seconds between two groups of streams that are ended over some time


@dataclass(frozen=True, slots=True)
class LifecycleFigures:
    """How many clients have each kind of deadline, and how many slow endings are under way."""

    pings: int
    ages: int
    stalls: int
    endings: int


class Lifecycle:
    """The deadlines and the endings of all clients.

    settings: ping-interval, max-age and stall-timeout, all in seconds, 0 for none. wall_clock: seconds since
    the epoch, by which access expires.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        fanout: Fanout,
        reactor: Any,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._fanout = fanout
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._ahead = wall_clock() - reactor.seconds()
        self._interval: float = settings["ping-interval"]
        self._max_age: float = settings["max-age"]
        self._stall_timeout: float = settings["stall-timeout"]
        grain = min(1.0, self._interval / 10) or 1.0
        self._pings: Deadlines[Client] = Deadlines(grain)
        self._ages: Deadlines[Client] = Deadlines(grain)
        self._stalls: Deadlines[Client] = Deadlines(min(1.0, self._stall_timeout / 10) or 1.0)
        self._progress: dict[Client, object] = {}  # of those in `_stalls`, at the last look
        self._endings = 0  # that take some time, under way
        self.orders = EndOrders(reactor)

    def figures(self) -> LifecycleFigures:
        """The figures of this moment."""
        return LifecycleFigures(len(self._pings), len(self._ages), len(self._stalls), self._endings)

    def add(self, client: Client) -> None:
        """Set the deadlines of a new client."""
        now = self._reactor.seconds()
        if self._interval:
            self._pings.set(client, now + self._interval)
        ends = [] if client.expires is None else [client.expires]
        if self._max_age and not client.is_poll:
            ends.append(now + self._max_age * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD))
        if ends:
            self._ages.set(client, min(ends))

    def remove(self, client: Client) -> None:
        """Clear the deadlines of a client that is gone."""
        self._pings.clear(client)
        self._ages.clear(client)
        self._stalls.clear(client)
        self._progress.pop(client, None)

    def watch_progress(self, client: Client) -> None:
        """Start the stall timeout: bytes wait for the client, and it must take some of them in time."""
        if self._stall_timeout and client not in self._stalls:
            self._stalls.set(client, self._reactor.seconds() + self._stall_timeout)
            self._progress[client] = client.progress()

    def send_pings(self, now: Callable[[], EventId], renew: bool) -> None:
        """Ping the clients that are due one.

        now: gives the present id. renew: send it also to clients that have one.
        """
        due = self._pop_ping_due()
        if due:
            moment = now()
            self._fanout.each(due, lambda client: self._ping(client, moment, renew))

    def end_overdue(self) -> None:
        """End the clients that are too old, whose access has expired, or that have stopped reading."""
        self._follow_wall_clock()
        aged = self._ages.pop_due(self._reactor.seconds())
        if aged:
            self._fanout.each(aged, self._end_aged)
        stalled = self._pop_stalled()
        if stalled:
            # A client that was ended before keeps that reason.
            self._fanout.each(stalled, lambda client: client.abort(client.ending or Ending.STALLED))

    def _follow_wall_clock(self) -> None:
        """Bring the ends of access forward by the time that the reactor's clock has missed.

        That clock stands still while a machine is suspended. Without this, a stream would go on for as long
        after its token has expired.
        """
        ahead = self._wall_clock() - self._reactor.seconds()
        missed = ahead - self._ahead
        if missed < _JUMP:
            return
        self._ahead = ahead
        self.log.info("the wall clock jumped by {seconds:.0f} s: access expires by it", seconds=missed)

        def bring_forward(client: Client) -> None:
            if client.expires is not None:
                client.expires -= missed
                self._ages.set_earlier(client, client.expires)

        self._fanout.each(list(self._ages), bring_forward)

    def end(
        self,
        clients: list[Client],
        why: Ending,
        over: float = 0.0,
        farewell: Callable[[], bytes] | None = None,
    ) -> None:
        """End these clients. over: seconds in which to do so. farewell: makes what each is sent before."""

        def end_one(client: Client) -> None:
            if farewell is not None:
                client.send(farewell())
            client.end(why)
            self.watch_progress(client)

        if over and clients:
            random.shuffle(clients)
            self._endings += 1
            self._end_share(clients, end_one, self._reactor.seconds(), over, 0)
        else:
            self._fanout.each(clients, end_one)

    def _end_share(
        self,
        clients: list[Client],
        end_one: Callable[[Client], None],
        started: float,
        over: float,
        ended: int,
    ) -> None:
        share = min(1.0, (self._reactor.seconds() - started + _STEP) / over)
        until = int(len(clients) * share)
        self._fanout.each(clients[ended:until], end_one)
        if until < len(clients):
            self._reactor.callLater(_STEP, self._end_share, clients, end_one, started, over, until)
        else:
            self._endings -= 1

    def _pop_ping_due(self) -> list[Client]:
        """The clients that are due a ping; each gets its next deadline."""
        now = self._reactor.seconds()
        due = []
        for client in self._pings.pop_due(now):
            next_ping = now if client.last_sent_at is None else client.last_sent_at + self._interval
            if next_ping <= now:
                due.append(client)
                next_ping = now + self._interval
            self._pings.set(client, next_ping)
        return due

    def _ping(self, client: Client, moment: EventId, renew: bool) -> None:
        """Ping a client. One without an id gets that of the moment, unless its own is ahead of it.

        renew: also where it has one. Without this a quiet client that reconnects to another process, with an
        old id, would be told of a gap: that process knows only what is younger.
        """
        if client.skip_until == NOT_LIVE:
            return  # it is still being sent what it missed
        if (renew or client.last_sent_at is None) and client.skip_until <= moment.seq:
            client.send(id_line(moment) + PING)
        else:
            client.send(PING)
        client.last_sent_at = self._reactor.seconds()

    def _end_aged(self, client: Client) -> None:
        if client.expires is not None and client.expires <= self._reactor.seconds():
            client.send(encode_expired())
            client.end(Ending.EXPIRED)
        else:
            client.end(Ending.AGED)
        self.watch_progress(client)

    def _pop_stalled(self) -> list[Client]:
        """The clients that have taken nothing of what waits for them during the stall timeout."""
        stalled = []
        for client in self._stalls.pop_due(self._reactor.seconds()):
            before = self._progress.pop(client, None)
            if client.state in (State.FULL, State.CLOSING):
                if client.progress() == before:
                    stalled.append(client)
                else:
                    self.watch_progress(client)
        return stalled
