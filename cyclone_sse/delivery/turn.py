"""What was published within one turn of the reactor, and who is due what of it.

Under load many events arrive before the first of them could be sent; each client gets all that
it is due in one write, in id order. What matters for a client is which of the turn's channels it hears,
not all it listens to: clients that hear the same of them are a group, and get the same bytes.

The cost is a step for each pair of a client and a channel of the turn that it hears, and a join for
each group. Knows nothing of time or sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event

BREATH = 20_000  # pairs of client and channel after which the reactor may have a turn: about 5 ms


class Group(NamedTuple):
    """Clients that are due the same events, which are in id order."""

    clients: list[Client]
    events: tuple[Event, ...]


class Turn:
    """The events of one turn, by channel. taken: when the first of them came, in seconds."""

    def __init__(self, taken: float) -> None:
        self.taken = taken
        self.size = 0  # events
        self.first = 0  # seq of the oldest
        self._by_channel: dict[str, list[Event]] = {}

    def add(self, event: Event) -> None:
        """The event goes to the subscribers of its channels."""
        if not self.size:
            self.first = event.seq
        self.size += 1
        for channel in event.channels:
            self._by_channel.setdefault(channel, []).append(event)

    def groups(self, registry: Channels[Client]) -> Iterator[Group | None]:
        """Every client that is due something, in one group. None: take a breath."""
        parts = self._parts()
        if len(parts) == 1:
            ((events, channels),) = parts.items()
            clients = registry.of(channels[0]) if len(channels) == 1 else registry.listening(channels)
            yield Group(clients, events)
            return
        heard: dict[Client, list[int]] = {}  # the numbers of the parts that a client hears
        pairs = 0
        for number, channels in enumerate(parts.values()):
            for channel in channels:
                clients = registry.of(channel)
                for client in clients:
                    numbers = heard.get(client)
                    if numbers is None:
                        heard[client] = [number]
                    elif numbers[-1] != number:  # it hears this part under another name too
                        numbers.append(number)
                pairs += len(clients) + 1
                if pairs > BREATH:
                    pairs = 0
                    yield None
        grouped: dict[tuple[int, ...], list[Client]] = {}
        for count, (client, numbers) in enumerate(heard.items(), 1):
            grouped.setdefault(tuple(numbers), []).append(client)
            if not count % (BREATH // 5):
                yield None
        each = list(parts)
        for numbers_, clients in grouped.items():
            yield Group(clients, _united([each[number] for number in numbers_]))

    def _parts(self) -> dict[tuple[Event, ...], list[str]]:
        """Events -> the channels that brought just these. One event for ten thousand channels is one part."""
        parts: dict[tuple[Event, ...], list[str]] = {}
        for channel, events in self._by_channel.items():
            parts.setdefault(tuple(events), []).append(channel)
        return parts


def _united(parts: list[tuple[Event, ...]]) -> tuple[Event, ...]:
    if len(parts) == 1:
        return parts[0]
    events = {event.seq: event for part in parts for event in part}
    return tuple(events[seq] for seq in sorted(events))
