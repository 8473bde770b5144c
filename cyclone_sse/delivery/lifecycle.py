"""The pings of clients, and the ends of their streams.

Pings, ages and stalls are deadlines in buckets, so that only clients that are due are checked. Sending events
to a client changes no deadline: when its ping is due, the time of its last bytes is compared.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from cyclone_sse.deadlines import Deadlines, grain_for
from cyclone_sse.delivery.client import CLOSING, FULL, GONE, NOT_LIVE, REPEATABLE, Client
from cyclone_sse.delivery.events import PING, EventId, encode_expired, id_line
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.errors import Ending

_PING_SPREAD = 0.1  # pings are sent up to a tenth early: one event gives all clients the same deadline
_AGE_SPREAD = 0.1  # streams that opened together end within a tenth of their age, not at once
_SLICE = 500  # clients whose deadlines are looked at in one turn of the reactor
_STEP = 0.05  # seconds between two groups of streams that are ended over some time


@dataclass(frozen=True, slots=True)
class LifecycleFigures:
    """How many clients have each kind of deadline, and how many endings over some time are under way."""

    pings: int
    ages: int
    expiries: int
    stalls: int
    endings: int


class Lifecycle:
    """The deadlines and the endings of all clients.

    settings: ping-interval, max-age and stall-timeout, all in seconds, 0 for none. wall: seconds since the
    epoch. Access ends by that clock: the reactor's stands still while a virtual machine is suspended.
    """

    log = Logger()

    def __init__(
        self,
        settings: Mapping[str, Any],
        fanout: Fanout,
        reactor: IReactorTime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fanout = fanout
        self._reactor = reactor
        self.wall = wall
        self._interval: float = settings["ping-interval"]
        self._max_age: float = settings["max-age"]
        self._stall_timeout: float = settings["stall-timeout"]
        grain = grain_for(self._interval)
        self._pings: Deadlines[Client] = Deadlines(grain)
        self._ages: Deadlines[Client] = Deadlines(grain)
        self._expiries: Deadlines[Client] = Deadlines(grain)  # by the wall clock
        self._stalls: Deadlines[Client] = Deadlines(grain_for(self._stall_timeout))
        self._progress: dict[Client, object] = {}  # of those in `_stalls`, at the last look
        self._endings = 0  # of many clients over some time, under way

    def figures(self) -> LifecycleFigures:
        """The figures of this moment."""
        return LifecycleFigures(
            len(self._pings), len(self._ages), len(self._expiries), len(self._stalls), self._endings
        )

    def slow_clients(self) -> list[Client]:
        """The clients whose stall timeout runs: bytes wait for them, or did a moment ago."""
        return list(self._progress)

    def add(self, client: Client) -> None:
        """Set the deadlines of a new client."""
        now = self._reactor.seconds()
        if self._interval:
            self._pings.set(client, now + self._ping_interval())
        if client.expires is not None:
            self._expiries.set(client, client.expires)
        if self._max_age and not client.is_poll:
            self._ages.set(client, now + self._max_age * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD))

    def remove(self, client: Client) -> None:
        """Clear the deadlines of a client that is gone."""
        self._pings.clear(client)
        self._ages.clear(client)
        self._expiries.clear(client)
        self._stalls.clear(client)
        self._progress.pop(client, None)

    def watch_progress(self, client: Client) -> None:
        """Start the stall timeout: bytes wait for the client, which must read some of them in time."""
        # Without the look at its state, one that left before it was ended would be kept until the timeout.
        if self._stall_timeout and client not in self._stalls and client.state is not GONE:
            self._stalls.set(client, self._reactor.seconds() + self._stall_timeout)
            self._progress[client] = client.progress()

    def send_pings(self, now: Callable[[], EventId], renew: bool) -> None:
        """Ping the clients that are due one.

        now: returns the present id. renew: send this id also to clients that have one.
        """
        if self._pings.first <= self._reactor.seconds():
            # The id of this moment for all of them. Without this, a client would be sent an id after events
            # whose walk comes behind the pings, and would miss these if it reconnected.
            self._fanout.work(self._ping_due(now(), renew))

    def end_overdue(self) -> None:
        """End the clients that are too old, whose access has expired, or that have stopped reading."""
        now = self._reactor.seconds()
        if self._ages.first <= now:
            self._fanout.work(self._call_due(self._ages, now, self._end_aged))
        if self._expiries.first <= self.wall():
            self._fanout.work(self._call_due(self._expiries, self.wall(), self._end_expired))
        if self._stalls.first <= now:
            self._fanout.work(self._call_due(self._stalls, now, self._end_stalled))

    def end(
        self,
        clients: list[Client],
        why: Ending,
        over: float = 0.0,
        farewell: Callable[[], bytes] | None = None,
    ) -> None:
        """End these clients. over: seconds over which to do so. farewell: returns the last bytes for each."""

        def end_one(client: Client) -> None:
            if farewell is not None:
                client.send(farewell())
            client.end(why)
            self.watch_progress(client)

        if over and clients:
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
        for place in range(ended, until):  # a share at a time: to shuffle all would be a long turn
            other = random.randrange(place, len(clients))
            clients[place], clients[other] = clients[other], clients[place]
        self._fanout.each(clients[ended:until], end_one)
        if until < len(clients):
            self._reactor.callLater(_STEP, self._end_share, clients, end_one, started, over, until)
        else:
            self._endings -= 1

    def _ping_interval(self) -> float:
        return self._interval * (1 - _PING_SPREAD * random.random())

    def _ping_due(self, moment: EventId, renew: bool) -> Iterator[None]:
        """Ping the clients that are due one, in slices; each client gets its next deadline."""
        seconds = self._reactor.seconds()
        while due := self._pings.pop_due(seconds, _SLICE):
            for client in due:
                next_ping = seconds
                if client.last_sent_at is not None:
                    next_ping = client.last_sent_at + self._ping_interval()
                if next_ping <= seconds:
                    next_ping = seconds + self._ping_interval()
                    self._try(self._ping, client, moment, renew)
                if client.state is not GONE:
                    self._pings.set(client, next_ping)
            yield

    def _call_due(
        self, deadlines: Deadlines[Client], now: float, step: Callable[[Client], None]
    ) -> Iterator[None]:
        """Call this function with each client whose deadline is due, in slices."""
        while due := deadlines.pop_due(now, _SLICE):
            for client in due:
                self._try(step, client)
            yield

    def _try(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception:
            # Without this the clients after it would lose their deadlines.
            self.log.failure("a client could not be pinged or ended")

    def _ping(self, client: Client, moment: EventId, renew: bool) -> None:
        """Ping a client. A client without an id is sent the present id, unless the client's own is greater.

        renew: also send the id to clients that have one. Without this, a quiet client that reconnects to
        another process, or after events in very many other channels, would receive a gap: its id is older
        than the history.
        """
        if client.skip_until == NOT_LIVE:
            return  # it is still being sent missed events
        needs_id = renew or client.renews_id or client.last_sent_at is None
        ping = id_line(moment) + PING if needs_id and client.skip_until <= moment.seq else PING
        client.send(ping, (ping,), (REPEATABLE,))
        client.last_sent_at = self._reactor.seconds()

    def _end_aged(self, client: Client) -> None:
        client.end(Ending.AGED)
        self.watch_progress(client)

    def _end_expired(self, client: Client) -> None:
        client.send(encode_expired())
        client.end(Ending.EXPIRED)
        self.watch_progress(client)

    def _end_stalled(self, client: Client) -> None:
        """End a client that has read none of its waiting bytes; a client that was ended before keeps its
        reason.
        """
        before = self._progress.pop(client, None)
        if client.state in (FULL, CLOSING):
            if client.progress() == before:
                client.abort(client.ending or Ending.STALLED)
            else:
                self.watch_progress(client)
