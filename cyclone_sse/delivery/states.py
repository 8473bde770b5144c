"""The state of each channel: the last event that was published with ``keep``.

A state stays, whatever the size and age of the history, until the next one replaces it or it is cleared. All
of them together are bounded in bytes; what would exceed the bound is refused before it is published, so that
nothing else suffers. An event that is the state of many channels is held and counted once. Plain Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.publication import Publication

_EVENT_OVERHEAD = 450  # bytes of an event in addition to its frame: the objects around it
_FIELDS = 150  # bytes of the longest id and retry in a frame
_CHANNEL_OVERHEAD = 250  # bytes of a channel in addition to its name


@dataclass(frozen=True, slots=True)
class StatesFigures:
    """For how many channels a state is held, and how many bytes all take."""

    channels: int
    bytes: int


class States:
    """The states of all channels. max_bytes: bound of all together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_channel: dict[str, Event] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # of an event, by its position: channels, and bytes
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_channel)

    def figures(self) -> StatesFigures:
        """The figures of this moment."""
        return StatesFigures(len(self._by_channel), self.bytes)

    def fit(self, publications: Sequence[Publication]) -> bool:
        """Whether these can become states, in this order, within the bound."""
        last: dict[str, int] = {}  # channel -> the number of the publication that is its state in the end
        for number, each in enumerate(publications):
            if each.keep:
                last.update(dict.fromkeys(each.channels, number))
        if not last:
            return True
        size = sum(_most_bytes(publications[number]) for number in set(last.values()))
        replaced: dict[int, int] = {}
        for name in last:
            event = self._by_channel.get(name)
            if event is None:
                size += len(name) + _CHANNEL_OVERHEAD
            else:
                replaced[event.seq] = replaced.get(event.seq, 0) + 1
        freed = sum(self._sizes[seq][1] for seq, count in replaced.items() if self._sizes[seq][0] == count)
        return self.bytes + size - freed <= self._max_bytes

    def set(self, event: Event, channels: Iterable[str] | None = None) -> None:
        """Make the event the state of its channels, or of these, unless they have a newer one."""
        for name in event.channels if channels is None else channels:
            before = self._by_channel.get(name)
            if before is not None and before.seq >= event.seq:
                continue
            if before is None:
                self.bytes += len(name) + _CHANNEL_OVERHEAD
            else:
                self._release(before)
            self._by_channel[name] = event
            count, size = self._sizes.get(event.seq, (0, len(event.frame) + _EVENT_OVERHEAD))
            if not count:
                self.bytes += size
            self._sizes[event.seq] = count + 1, size

    def get(self, channel: str) -> Event | None:
        """The state of a channel, if it has one."""
        return self._by_channel.get(channel)

    def of(self, channels: Iterable[str]) -> list[Event]:
        """The states of these channels in id order, each once."""
        found = {event.seq: event for event in map(self._by_channel.get, channels) if event is not None}
        return [found[seq] for seq in sorted(found)]

    def clear(self, channel: str) -> None:
        """Forget the state of a channel, if it has one."""
        event = self._by_channel.pop(channel, None)
        if event is not None:
            self.bytes -= len(channel) + _CHANNEL_OVERHEAD
            self._release(event)

    def clear_all(self) -> None:
        """Forget all states."""
        self._by_channel.clear()
        self._sizes.clear()
        self.bytes = 0

    def _release(self, event: Event) -> None:
        count, size = self._sizes.pop(event.seq)
        if count > 1:
            self._sizes[event.seq] = count - 1, size
        else:
            self.bytes -= size


def _most_bytes(publication: Publication) -> int:
    """What the event will take at most: each of its lines begins with the name of the field."""
    lines = 1 + publication.data.count(b"\n") + publication.data.count(b"\r")
    return _EVENT_OVERHEAD + _FIELDS + 4 * len(publication.type or "") + len(publication.data) + 6 * lines
