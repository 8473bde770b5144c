"""The last orders to end streams, for clients that were being authorised when an order came.

Such a client was authorised before the order, and opens its stream afterwards: it is ended too, reconnects,
and is authorised again.

An order is remembered for a minute, far longer than an authorisation takes, and all orders together have a
limited number of names. Without these limits publishers could fill the memory with names of channels that do
not exist. After an order has been forgotten, each client that is older than the order is ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from typing import Any, NamedTuple

from cyclone_sse.delivery.client import Client

REMEMBERED = 60.0  # seconds
MAX_NAMES = 10_000  # of channels in all remembered orders
MAX_ORDERS = 1000


class EndOrder(NamedTuple):
    """An order to end the streams of these channels and this user; None: all channels, all users."""

    when: float
    channels: Set[str] | None
    user: str | None


class EndOrders:
    """The orders of the last minute. count: all orders so far, remembered or not."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._orders: deque[EndOrder] = deque()
        self._names = 0
        self.count = 0

    def __len__(self) -> int:
        """The orders that are remembered."""
        return len(self._orders)

    def add(self, channels: Set[str] | None, user: str | None) -> None:
        """Remember an order."""
        self._orders.append(EndOrder(self._reactor.seconds(), channels, user))
        self._names += len(channels or ())
        self.count += 1
        self.forget_old()

    def forget_old(self) -> None:
        """Forget the orders that are too old, or too many."""
        oldest = self._reactor.seconds() - REMEMBERED
        while self._orders and (
            self._orders[0].when <= oldest or self._names > MAX_NAMES or len(self._orders) > MAX_ORDERS
        ):
            self._names -= len(self._orders.popleft().channels or ())

    def concern(self, client: Client, since: int) -> bool:
        """Whether an order that was given after the first ``since`` orders concerns this client."""
        new = self.count - since
        if not new:
            return False
        if new > len(self._orders):
            return True
        return any(
            (order.channels is None or not order.channels.isdisjoint(client.channels))
            and (order.user is None or order.user == client.user)
            for order in list(self._orders)[len(self._orders) - new :]
        )
