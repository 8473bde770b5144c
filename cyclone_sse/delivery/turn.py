"""The events that were published within one turn of the reactor, and their clients.

Under load many events arrive before the first of them can be sent; each client is sent all its events in one
write, in id order. Clients that are subscribed to the same of the turn's channels form a group, and are sent
the same bytes.

The cost is a step for each pair of a client and one of its channels in the turn, and a join for each group.
Knows nothing of time or sockets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event

PAIRS = 10_000  # pairs of client and channel, or of event and channel, in a slice: some milliseconds


class Group(NamedTuple):
    """Clients that receive the same events."""

    clients: list[Client]
    batch: Batch


class Turn:
    """The events of one turn, in id order.

    published_at: when the first of them came, in seconds. admitted: the clients that may receive them; None
    for all.
    """

    def __init__(self, published_at: float) -> None:
        self.published_at = published_at
        self.events: list[Event] = []
        self.admitted: Collection[Client] | None = None
        self._left_out: dict[str, set[Client]] = {}

    def leave_out(self, client: Client, channels: Iterable[str]) -> None:
        """Send the client nothing of these channels, which it got after the walk had started."""
        for name in channels:
            self._left_out.setdefault(name, set()).add(client)

    def groups(self, registry: Channels[Client]) -> Iterable[Group | None]:
        """Every client that is due some of the events, in one group. None: the end of a slice."""
        name = self._only_name()
        if name is not None:
            return (Group(list(registry.of(name)), Batch(self.events)),)
        return self._groups(registry)

    def _only_name(self) -> str | None:
        """The name under which all the events were published, usually one; None if there are several."""
        channels = self.events[0].channels
        if len(channels) != 1:
            return None
        for event in self.events:
            if event.patterns or event.channels != channels:
                return None
        return channels[0]

    def _groups(self, registry: Channels[Client]) -> Iterator[Group | None]:
        parts: dict[tuple[Event, ...], list[str]] = {}
        for work in self._parts(parts):
            yield work
        received: dict[Client, int | list[int]] = {}  # the numbers of the parts that a client receives
        for work in _note_received(parts.values(), registry, self._left_out, received):
            yield work
        grouped: dict[int | tuple[int, ...], list[Client]] = {}
        for count, (client, numbers) in enumerate(received.items(), 1):
            grouped.setdefault(numbers if isinstance(numbers, int) else tuple(numbers), []).append(client)
            if not count % PAIRS:
                yield None
        each = list(parts)
        for part_numbers, clients in grouped.items():
            if isinstance(part_numbers, int):
                yield Group(clients, Batch(each[part_numbers]))
            else:
                yield Group(clients, Batch(_merged([each[number] for number in part_numbers])))

    def _parts(self, parts: dict[tuple[Event, ...], list[str]]) -> Iterator[None]:
        """Find the channels that have the same events in this turn.

        One event for ten thousand channels is one part.
        """
        if len(self.events) == 1:
            # Without this, very many lists of one event would be made, and collected as garbage.
            parts[self.events[0],] = list(self.events[0].names)
            return
        by_channel: dict[str, list[Event]] = {}
        count = 0
        for event in self.events:
            for name in event.names:
                by_channel.setdefault(name, []).append(event)
                count += 1
                if not count % PAIRS:
                    yield
        for count, (channel, events) in enumerate(by_channel.items(), 1):
            parts.setdefault(tuple(events), []).append(channel)
            if not count % PAIRS:
                yield


def _note_received(
    parts: Iterable[list[str]],
    registry: Channels[Client],
    left_out: Mapping[str, Collection[Client]],
    received: dict[Client, int | list[int]],
) -> Iterator[None]:
    """Note the numbers of the parts that each client receives: mostly one, by itself; else a list."""
    pairs = 0
    for number, names in enumerate(parts):
        for channel in names:
            clients: Collection[Client] = registry.of(channel)
            if left_out and channel in left_out:
                clients = [client for client in clients if client not in left_out[channel]]
            for client in clients:
                before = received.setdefault(client, number)
                if before == number:
                    continue  # it is new, or receives this part under another name too
                if isinstance(before, int):
                    received[client] = [before, number]
                elif before[-1] != number:
                    before.append(number)
            pairs += len(clients) + 1
            if pairs > PAIRS:
                pairs = 0
                yield


def _merged(parts: list[tuple[Event, ...]]) -> tuple[Event, ...]:
    events = {event.seq: event for part in parts for event in part}
    return tuple([events[seq] for seq in sorted(events)])
