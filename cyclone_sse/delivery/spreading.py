"""Events that are being spread: in slices, each of their very many channels gets them.

Such an event is part of every answer from the start. So it is known here, with the channels that may not have
it yet, until all of them have it. Plain Python.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from math import inf

from cyclone_sse.delivery.events import Event


class Spreading:
    """The events that are being spread.

    events: with the channels of each: all of its own, except those that were cleared meanwhile.
    """

    def __init__(self) -> None:
        self.events: dict[Event, set[str]] = {}

    def __contains__(self, event: Event) -> bool:
        return event in self.events

    def start(self, event: Event) -> None:
        """Note an event that none of its channels has yet."""
        self.events[event] = set(event.channels)

    def finish(self, event: Event) -> None:
        """Note that all channels have the event."""
        self.events.pop(event, None)

    def is_for(self, event: Event, channel: str) -> bool:
        """Whether the event is being spread to this channel."""
        return channel in self.events.get(event, ())

    def of(self, channel: str) -> Iterator[Event]:
        """The events that are being spread to this channel."""
        return (event for event, names in self.events.items() if channel in names)

    def after(self, seq: int, channels: Collection[str]) -> Iterator[Event]:
        """The events after this position that are being spread to any of these channels."""
        for event, names in self.events.items():
            if event.seq > seq and not names.isdisjoint(channels):
                yield event

    def awaited_by(self, channels: Set[str]) -> set[str]:
        """Those of these channels to which an event is being spread."""
        return set[str]().union(*(channels & names for names in self.events.values()))

    def leave_out(self, channel: str, until: float = inf) -> None:
        """Leave out a channel that was cleared: it does not get the events up to this position."""
        for event, names in self.events.items():
            if event.seq <= until:
                names.discard(channel)

    def clear(self) -> None:
        """Forget all events: the rest of their channels does not get them."""
        self.events.clear()
