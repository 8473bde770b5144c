"""The members of rooms, exchanged between the servers that share a broker, by way of its orders.

Reports that are lost while the broker is away are requested by the other servers when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from cyclone_sse.delivery.presence_feed import PresenceFeed
from cyclone_sse.errors import Unavailable

PRESENCE_WAIT = 1.0  # seconds for the other servers to report their members to one that starts
PRESENCE_TRIES = 20


class PresenceExchange:
    """The reports of one server.

    control: sends an order to the other servers. is_connected: whether their orders come in.
    """

    def __init__(
        self,
        presence: PresenceFeed,
        control: Callable[[Mapping[str, Any]], Any],
        is_connected: Callable[[], bool],
        reactor: IReactorTime,
    ) -> None:
        self._presence = presence
        self._control = control
        self._is_connected = is_connected
        self._reactor = reactor

    def start(self) -> None:
        """Report what changes from now on."""
        self._presence.start(self._report, self._is_connected)

    async def learn(self, connected: Deferred[Any]) -> None:
        """Wait until the other servers have reported their members, but not for a broker that is away."""
        await connected
        for _ in range(PRESENCE_TRIES):
            if self._is_connected():
                break
            await deferLater(self._reactor, PRESENCE_WAIT / PRESENCE_TRIES)
        self._presence.ask()
        await deferLater(self._reactor, PRESENCE_WAIT)

    def _report(self, message: Mapping[str, Any]) -> Deferred[Any]:
        return maybeDeferred(self._control, {"presence": message}).addErrback(
            lambda failure: failure.trap(Unavailable)
        )
