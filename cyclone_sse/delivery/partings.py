"""How streams are ended: all at once, or evenly spread over some time, each with a farewell.

Somebody who is just being let in when streams are ended has been checked before, and opens after it.
So the last orders are remembered, and such a client is ended as well: it comes back and is checked anew.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.lifetimes import Lifetimes
from cyclone_sse.errors import Ending

_STEP = 0.05  # seconds between two lots of streams that are ended over some time
_REMEMBERED = 1000  # orders; a client takes seconds to be let in


class Partings:
    """Ends streams. under_way: how many endings take their time at present; orders: how many there were."""

    def __init__(self, fanout: Fanout, lifetimes: Lifetimes, reactor: Any) -> None:
        self._fanout = fanout
        self._lifetimes = lifetimes
        self._reactor = reactor
        self._last: deque[tuple[Collection[str] | None, str | None]] = deque(maxlen=_REMEMBERED)
        self.under_way = 0
        self.orders = 0

    def begin(
        self,
        clients: list[Client],
        why: Ending,
        over: float = 0.0,
        farewell: Callable[[], bytes] | None = None,
    ) -> None:
        """End these. over: seconds in which to do so. farewell: gives what each is told before."""

        def part(client: Client) -> None:
            if farewell is not None:
                client.send(farewell())
            client.end(why)
            self._lifetimes.watch(client)

        if over and clients:
            random.shuffle(clients)
            self.under_way += 1
            self._go_on(clients, part, self._reactor.seconds(), over, 0)
        else:
            self._fanout.each(clients, part)

    def remember(self, channels: Collection[str] | None, user: str | None) -> None:
        """Streams were ended: of these channels, of this user; None: whatever they are."""
        self._last.append((channels, user))
        self.orders += 1

    def concern(self, client: Client, since: int) -> bool:
        """Whether one of the orders after the first ``since`` is about this client."""
        new = self.orders - since
        if new > len(self._last):
            return True  # nobody remembers
        return any(
            (channels is None or not set(channels).isdisjoint(client.channels))
            and (user is None or user == client.user)
            for channels, user in (self._last[-number] for number in range(1, new + 1))
        )

    def _go_on(
        self, clients: list[Client], part: Callable[[Client], None], began: float, over: float, ended: int
    ) -> None:
        share = min(1.0, (self._reactor.seconds() - began + _STEP) / over)
        until = int(len(clients) * share)
        self._fanout.each(clients[ended:until], part)
        if until < len(clients):
            self._reactor.callLater(_STEP, self._go_on, clients, part, began, over, until)
        else:
            self.under_way -= 1
