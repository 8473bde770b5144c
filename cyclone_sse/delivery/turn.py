"""What was published within one turn of the reactor, and who is due what of it.

Under load many events arrive before the first of them could be sent; each client gets all that
it is due in one write, in id order. Clients of the same channels are due the same bytes, so the
joining is done once for each combination of channels, not for each client.
"""

from __future__ import annotations

from collections.abc import KeysView
from typing import NamedTuple

from cyclone_sse.delivery.events import Event


class _Delivery(NamedTuple):
    event: Event
    # The other names under which this event went out before: their subscribers have it.
    earlier: frozenset[str]


class Turn:
    """The events of one turn, by channel."""

    def __init__(self) -> None:
        self._deliveries: dict[str, list[_Delivery]] = {}
        self._frames: dict[tuple[str, ...], bytes] = {}
        self.first: int | None = None  # seq of the oldest event

    def add(self, event: Event, channel: str, earlier: frozenset[str]) -> None:
        """The event goes to the subscribers of the channel, but for those of earlier ones."""
        self._deliveries.setdefault(channel, []).append(_Delivery(event, earlier))
        self.first = event.seq if self.first is None else min(self.first, event.seq)

    def channels(self) -> KeysView[str]:
        """The channels in which there is something to deliver."""
        return self._deliveries.keys()

    def due(self, channels: tuple[str, ...], after: int = -1) -> list[Event]:
        """The events for a client of these channels that joined at position ``after``."""
        listens = frozenset(channels)
        found: dict[int, Event] = {}
        for channel in channels:
            for event, earlier in self._deliveries.get(channel, ()):
                if event.seq > after and listens.isdisjoint(earlier):
                    found[event.seq] = event
        return [found[seq] for seq in sorted(found)]

    def frames(self, channels: tuple[str, ...]) -> bytes:
        """The bytes for a client of these channels that was there all the time."""
        frames = self._frames.get(channels)
        if frames is None:
            frames = b"".join(event.frame for event in self.due(channels))
            self._frames[channels] = frames
        return frames
