"""The open streams of a user or of a channel, for the operator: user, address, start and position.

A search by channel visits the streams of that channel; a search by user walks over all streams, in slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.slices import Slices

MOST = 500  # streams of one answer
_SLICE = 2000  # streams looked at in one turn


class Streams:
    """Finds the open streams of one server. clock: Unix time."""

    def __init__(self, hub: Hub, reactor: IReactorTime, clock: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._slices = Slices(reactor)
        self._clock = clock
        self._reactor = reactor

    def find(self, user: str | None, channel: str | None) -> Deferred[dict[str, Any]]:
        """Find the streams with this user and channel; None: any. Fires with the answer as a JSON object.

        total: their number; streams: the first `MOST` of them.
        """
        clients = list(self._hub.clients if channel is None else self._hub.channels.of(channel))
        return self._slices.result_of(self._collect(clients, user))

    def _collect(self, clients: list[Client], user: str | None) -> Generator[None, None, dict[str, Any]]:
        total, streams = 0, list[dict[str, Any]]()
        for number, client in enumerate(clients, 1):
            if user is None or client.user == user:
                total += 1
                if len(streams) < MOST:
                    streams.append(self._described(client))
            if not number % _SLICE:
                yield
        return {"total": total, "streams": streams}

    def _described(self, client: Client) -> dict[str, Any]:
        age = self._reactor.seconds() - client.opened_at
        waiting = client.waiting_bytes
        return {
            "user": client.user,
            "address": client.address,
            "channels": list(client.channels[:20]),
            "since": round(self._clock() - age, 3),
            "waiting_bytes": waiting,
            # Nothing waits for it: it has been sent everything up to now. Else its position is not counted.
            "last_id": self._hub.position() if not waiting else None,
        }
