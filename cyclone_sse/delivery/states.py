"""The state of each channel: the last event that was published with ``keep``.

A state is kept, regardless of the size and age of the history, until the next one replaces it or it is
cleared. The size of all states is limited; an event that would exceed the limit is refused before it is
published, so that no other state is lost. An event that is the state of many channels is kept and counted
once. Plain Python.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.delivery.spreading import Spreading
from cyclone_sse.slices import finish

STATES_AT_ONCE = 1000  # channels of one slice: about 2 ms

_STATE_OVERHEAD = 450  # bytes of an event in addition to its frame: the objects around it
_ID_AND_RETRY = 150  # bytes of the longest id and retry in a frame
_NAME_OVERHEAD = 250  # bytes of a channel in addition to its name


@dataclass(frozen=True, slots=True)
class StatesFigures:
    """The number of channels with a state, and the bytes of all states."""

    channels: int
    bytes: int


class States:
    """The states of all channels. max_bytes: the limit of all together.

    without_event: the positions of states from a place where their events are lost: these will not come.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_channel: dict[str, Event] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # of an event, by its position: channels, and bytes
        self._restored: dict[int, tuple[Event, list[str]]] = {}  # by position: events, and their channels
        self._spreading = Spreading()
        self.without_event: set[int] = set()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_channel)

    def figures(self) -> StatesFigures:
        """The figures of this moment."""
        return StatesFigures(len(self._by_channel), self.bytes)

    def fit(self, publications: Sequence[Publication]) -> bool:
        """Whether these can become states, in this order, within the limit."""
        return finish(self.fit_in_slices(publications))

    def fit_in_slices(self, publications: Sequence[Publication]) -> Generator[None, None, bool]:
        """The same, in slices. No state must be set meanwhile."""
        size = self.bytes
        new: dict[str, int] = {}  # the states to be, by channel: positions, those of publications below 0
        held = dict[int, tuple[int, int]]()  # as `_sizes`, where it would be another
        looked_at = 0
        for number, each in enumerate(publications, 1):
            if not each.keep:
                continue
            most = _most_bytes(each)
            size += most
            held[-number] = len(each.channels), most
            for name in each.channels:
                before = new.get(name) or self._position(name)
                if before is None:
                    size += len(name) + _NAME_OVERHEAD
                else:
                    count, bytes = held.get(before) or self._sizes.get(before, (0, 0))
                    held[before] = count - 1, bytes
                    size -= bytes if count == 1 else 0
                new[name] = -number
                looked_at += 1
                if not looked_at % STATES_AT_ONCE:
                    yield
            if size > self._max_bytes:
                return False
        return True

    def _position(self, channel: str) -> int | None:
        event = self._by_channel.get(channel)
        return None if event is None else event.seq

    def set(self, event: Event) -> None:
        """Make the event the state of its channels, unless they have a newer one."""
        for name in event.channels:
            self._set(name, event)

    def restore(self, channel: str, event: Event) -> None:
        """Make an event that was kept elsewhere the state of a channel, unless the channel has a newer one.

        Each channel had a copy of its own there; here they share one. Without this, the limit would not count
        the copies, and a client of several channels would be sent the name of one.
        """
        before = self._position(channel)
        if before is not None and before >= event.seq:
            return
        event, names = self._restored.setdefault(event.seq, (event, []))
        names.append(channel)
        event.channels = names
        self._set(channel, event)

    def spread(self, event: Event) -> Iterator[None]:
        """Do the same in slices. The event is part of every answer from now on."""
        self._spreading.start(event)
        return self._spread(event)

    def _spread(self, event: Event) -> Iterator[None]:
        for number, name in enumerate(event.channels):
            if not number % STATES_AT_ONCE:
                yield
            if self._spreading.is_for(event, name):  # else it was cleared meanwhile
                self._set(name, event)
        self._spreading.finish(event)

    def _set(self, name: str, event: Event) -> None:
        before = self._by_channel.get(name)
        if before is not None and before.seq >= event.seq:
            return
        if before is None:
            self.bytes += len(name) + _NAME_OVERHEAD
        else:
            self._release(before)
        self._by_channel[name] = event
        count, size = self._sizes.get(event.seq, (0, len(event.frame) + _STATE_OVERHEAD))
        if not count:
            self.bytes += size
        self._sizes[event.seq] = count + 1, size

    def get(self, channel: str) -> Event | None:
        """The state of a channel, if it has one."""
        state = self._by_channel.get(channel)
        if self._spreading.events:
            for event in self._spreading.of(channel):
                if state is None or state.seq < event.seq:
                    state = event
        return state

    def of(self, channels: Iterable[str]) -> list[Event]:
        """The states of these channels in id order, each once, and with those channels whose state it is."""
        found: dict[int, tuple[Event, list[str]]] = {}
        for name in channels:
            event = self.get(name)
            if event is not None:
                found.setdefault(event.seq, (event, []))[1].append(name)
        return [_for_channels(*found[seq]) for seq in sorted(found)]

    def clear(self, channel: str) -> None:
        """Forget the state of a channel, if it has one."""
        self._spreading.leave_out(channel)
        event = self._by_channel.pop(channel, None)
        if event is not None:
            self.bytes -= len(channel) + _NAME_OVERHEAD
            self._release(event)

    def clear_all(self) -> None:
        """Forget all states."""
        self._by_channel.clear()
        self._sizes.clear()
        self._restored.clear()
        self._spreading.clear()
        self.without_event.clear()
        self.bytes = 0

    def _release(self, event: Event) -> None:
        count, size = self._sizes.pop(event.seq)
        if count > 1:
            self._sizes[event.seq] = count - 1, size
        else:
            self.bytes -= size
            self._restored.pop(event.seq, None)


def _for_channels(event: Event, channels: Sequence[str]) -> Event:
    """The event as the state of some of its channels.

    Without this, a client would take it for the state of channels that were cleared, too.
    """
    if len(channels) == len(event.channels):
        return event
    state = Event(event.id, event.frame, channels)
    state.excluded = event.excluded
    return state


def _most_bytes(publication: Publication) -> int:
    """The most bytes that the event can take: each of its lines begins with the name of the field."""
    lines = 1 + publication.data.count(b"\n") + publication.data.count(b"\r")
    return (
        _STATE_OVERHEAD + _ID_AND_RETRY + 4 * len(publication.type or "") + len(publication.data) + 6 * lines
    )
