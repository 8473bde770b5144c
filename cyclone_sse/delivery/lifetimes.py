"""When a client is to be pinged, when its time is over, and when it has stopped to read.

Each is a deadline in buckets, so only who is due is looked at. What is sent to a client in between
moves nothing here: a client whose ping is due is asked when it was last sent something.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.delivery.client import NOT_LIVE, Client, State
from cyclone_sse.delivery.events import PING, EventId, encode_expired, id_line
from cyclone_sse.errors import Ending

_AGE_SPREAD = 0.1  # streams that began together end within a tenth of their age, not together


class Lifetimes:
    """The deadlines of all clients.

    settings: ping-interval, max-age and stall-timeout, all in seconds, 0 for none.
    """

    def __init__(self, settings: Mapping[str, Any], reactor: Any) -> None:
        self._reactor = reactor
        self._interval: float = settings["ping-interval"]
        self._max_age: float = settings["max-age"]
        self._patience: float = settings["stall-timeout"]
        grain = min(1.0, self._interval / 10) or 1.0
        self._pings: Deadlines[Client] = Deadlines(grain)
        self._ages: Deadlines[Client] = Deadlines(grain)
        self._stalls: Deadlines[Client] = Deadlines(min(1.0, self._patience / 10) or 1.0)
        self._progress: dict[Client, object] = {}  # of those in `_stalls`, when they were last looked at

    def begin(self, client: Client) -> None:
        """The client is here."""
        now = self._reactor.seconds()
        if self._interval:
            self._pings.set(client, now + self._interval)
        ends = [] if client.expires is None else [client.expires]
        if self._max_age and not client.once:
            ends.append(now + self._max_age * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD))
        if ends:
            self._ages.set(client, min(ends))

    def end(self, client: Client) -> None:
        """The client is gone."""
        self._pings.clear(client)
        self._ages.clear(client)
        self._stalls.clear(client)
        self._progress.pop(client, None)

    def watch(self, client: Client) -> None:
        """Something waits for the client now: it has to take some of it in time."""
        if self._patience and client not in self._stalls:
            self._stalls.set(client, self._reactor.seconds() + self._patience)
            self._progress[client] = client.progress()

    def silent(self) -> list[Client]:
        """Those whose last word from us is so long ago that they are to be pinged."""
        now = self._reactor.seconds()
        found = []
        for client in self._pings.due(now):
            next_ping = now if client.heard is None else client.heard + self._interval
            if next_ping <= now:
                found.append(client)
                next_ping = now + self._interval
            self._pings.set(client, next_ping)
        return found

    def ping(self, client: Client, moment: EventId, renew: bool) -> None:
        """Ping the client. If it has no id to come back with, this brings that of the moment, unless it has
        heard more elsewhere: its own takes it further.

        renew: also if it has one. Whoever has heard nothing for long, and then comes to another process with
        an id from before, would else be told of a gap: that process knows only what is younger.
        """
        if client.live_after == NOT_LIVE:
            return  # it still gets what it missed
        if (renew or client.heard is None) and client.live_after <= moment.seq:
            client.send(id_line(moment) + PING)
        else:
            client.send(PING)
        client.heard = self._reactor.seconds()

    def aged(self) -> list[Client]:
        """Those whose time is over."""
        return self._ages.due(self._reactor.seconds())

    def end_aged(self, client: Client) -> None:
        """End such a client, in an orderly way."""
        if client.expires is not None and client.expires <= self._reactor.seconds():
            client.send(encode_expired())
            client.end(Ending.EXPIRED)
        else:
            client.end(Ending.AGED)
        self.watch(client)

    def stalled(self) -> list[Client]:
        """Those who have taken nothing of what waits for them."""
        found = []
        for client in self._stalls.due(self._reactor.seconds()):
            before = self._progress.pop(client, None)
            if client.state in (State.FULL, State.CLOSING):
                if client.progress() == before:
                    found.append(client)
                else:
                    self.watch(client)
        return found

    def end_stalled(self, client: Client) -> None:
        """End such a client. One that was told of its end before ends for that reason."""
        client.abort(client.ending or Ending.STALLED)
