"""Bounded memory of past events: what came after a position in these channels?

It must answer that for a client that returns after seconds or minutes, and say honestly when it
cannot: every channel has a *floor*, the position after which nothing is missing. Whatever makes
the memory forget (a full channel, age, the bound of the whole process, an upstream that was
away) raises floors, and a client that comes from below a floor is told of the gap.

An append costs O(1), and so does forgetting to make room. A question costs a binary search for each
channel, and what it answers. The bytes of an event are held and counted once, in however many
channels it is. Plain Python: positions are the ``seq`` of events, and the time is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

from cyclone_sse.delivery.events import Event

FLOORS = 100_000  # channels without events whose floor is still known, about 15 MB

_EVENT_OVERHEAD = 300  # bytes of an event besides its frame: the objects around it
_ENTRY_OVERHEAD = 60  # bytes of an event in one channel more
_CHANNEL_OVERHEAD = 500  # bytes of a channel besides its events
_SLACK = 32  # forgotten entries that may stay in a list before they are cut off at once

_seq = attrgetter("seq")


class _Past:
    """The events of one channel, oldest first, and the time each was taken.

    floor: the position after which nothing is missing; None: nobody has listened yet.
    """

    __slots__ = ("events", "floor", "size", "start", "times")

    def __init__(self, floor: int | None) -> None:
        self.floor = floor
        self.events: list[Event] = []
        self.times: list[float] = []
        self.start = 0  # index of the oldest event that counts
        self.size = _CHANNEL_OVERHEAD  # bytes, each frame counted in full

    def __len__(self) -> int:
        return len(self.events) - self.start

    def after(self, seq: int) -> Iterator[Event]:
        """The events after that position, oldest first."""
        first = bisect_right(self.events, seq, lo=self.start, key=_seq)
        return islice(self.events, first, None)

    def drop_oldest(self) -> Event:
        """Take out the oldest event. A list shifts all that follows, so it is cut now and then only."""
        event = self.events[self.start]
        self.start += 1
        self.size -= len(event.frame) + _ENTRY_OVERHEAD
        self.floor = event.seq if self.floor is None else max(self.floor, event.seq)
        if self.start > _SLACK and self.start * 2 > len(self.events):
            del self.events[: self.start], self.times[: self.start]
            self.start = 0
        return event


class _BySize:
    """Channels by the magnitude of their size, to find one of the largest at once."""

    def __init__(self) -> None:
        self._classes: list[dict[str, None]] = [{} for _ in range(64)]
        self._class_of: dict[str, int] = {}

    def set(self, channel: str, size: int) -> None:
        number = size.bit_length()
        before = self._class_of.get(channel)
        if before != number:
            if before is not None:
                del self._classes[before][channel]
            self._class_of[channel] = number
            self._classes[number][channel] = None

    def discard(self, channel: str) -> None:
        number = self._class_of.pop(channel, None)
        if number is not None:
            del self._classes[number][channel]

    def largest(self) -> str | None:
        for channels in reversed(self._classes):
            if channels:
                return next(iter(channels))
        return None


class History:
    """The past of all channels.

    size: events kept for each channel; 0 keeps none. ttl: seconds they are kept. max_bytes:
    bound for all channels together; the largest channels give up their oldest events first, and the
    newest event of all stays. start: the floor of channels never heard of; None where a channel is
    complete only after ``raise_floor``.
    """

    def __init__(self, size: int, ttl: float, max_bytes: int, start: int | None) -> None:
        self._size = size
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._start = start
        self._past: OrderedDict[str, _Past] = OrderedDict()  # least recently published first
        self._floors: OrderedDict[str, int | None] = OrderedDict()  # of channels without events
        self._by_size = _BySize()  # those with more than one event
        self.on_forgotten: Callable[[Event], None] | None = None  # told what no channel holds any more
        self.bytes = 0  # held at present, as accounted
        self.events = 0  # held at present, each counted once

    def append(self, channel: str, event: Event, now: float) -> None:
        """Keep an event of the channel; now: seconds, from a clock that goes forward."""
        if not self._size:
            self._set_floor(channel, event.seq)
            return
        past = self._past.get(channel)
        if past is None:
            past = self._past[channel] = _Past(self._floors.pop(channel, self._start))
            self.bytes += _CHANNEL_OVERHEAD
        else:
            self._past.move_to_end(channel)
        past.events.append(event)
        past.times.append(now)
        self._hold(past, event)
        if len(past) > self._size:
            self._forget_oldest(channel, past)
        if len(past) > 1:
            self._by_size.set(channel, past.size)
        if self.bytes > self._max_bytes:
            self._make_room(channel)

    def raise_floor(self, channel: str, seq: int) -> None:
        """From this position on the channel is complete; before it, nobody knows."""
        past = self._past.get(channel)
        if past is not None:
            past.floor = seq if past.floor is None else max(past.floor, seq)
        else:
            self._set_floor(channel, seq)

    def fill_pattern(self, name: str, matches: Callable[[str], bool], now: float) -> None:
        """Let a name that stands for many channels have what those hold. Costs a look at all channels."""
        names = [channel for channel in self._past if channel == name or matches(channel)]
        floors = [self.floor(channel) for channel in (name, *names, *filter(matches, self._floors))]
        floor = max((floor for floor in floors if floor is not None), default=0)
        events = list(self.since(0, names, now))
        self.forget(
            name
        )  # a channel may have been called like that before: its events have their places, too
        self.raise_floor(name, max(floor, self._start or 0))
        for event in events:
            self.append(name, event, now)

    def clear(self, start: int) -> None:
        """Forget everything; every channel is complete from this position on."""
        self._past.clear()
        self._floors.clear()
        self._by_size = _BySize()
        self._start = start
        self.bytes = self.events = 0

    def forget(self, channel: str) -> None:
        """Forget the channel and its floor: nothing of it comes any more."""
        if channel in self._past:
            self._forget_channel(channel)
        self._floors.pop(channel, None)

    def floor(self, channel: str) -> int | None:
        """The position after which nothing of the channel is missing; None: nobody has listened."""
        past = self._past.get(channel)
        return past.floor if past is not None else self._floors.get(channel, self._start)

    def with_events_after(self, seq: int, channels: Iterable[str]) -> tuple[str, ...]:
        """Those of the channels that hold something after the position."""
        past = self._past
        return tuple(name for name in channels if name in past and past[name].events[-1].seq > seq)

    def since(self, seq: int, channels: Iterable[str], now: float) -> Iterator[Event]:
        """The events held of these channels after the position, each once, in id order.

        To be taken before anything else is published.
        """
        parts = [past.after(seq) for past in self._listed(channels, now)]
        if len(parts) == 1:
            return parts[0]
        return _each_once(merge(*parts, key=_seq))

    def gaps(self, seq: int, channels: Iterable[str], now: float) -> Collection[str]:
        """The channels of which something after the position may be missing."""
        gaps = []
        for channel in channels:
            past = self._past.get(channel)
            if past is not None:
                self._expire(channel, past, now)
            floor = self.floor(channel)
            if floor is None or floor > seq:
                gaps.append(channel)
        return gaps

    def sweep(self, now: float, most: int = 1000) -> bool:
        """Forget the channels whose events have all become too old, so many at the most.

        True if there are more of them: ask again in another turn of the reactor.
        """
        for _ in range(most):
            channel = next(iter(self._past), None)
            if channel is None or self._past[channel].times[-1] + self._ttl > now:
                return False
            self._forget_channel(channel)
        return True

    def _listed(self, channels: Iterable[str], now: float) -> Sequence[_Past]:
        found = []
        for channel in channels:
            past = self._past.get(channel)
            if past is not None:
                self._expire(channel, past, now)
                if past:
                    found.append(past)
        return found

    def _expire(self, channel: str, past: _Past, now: float) -> None:
        while past and past.times[past.start] + self._ttl <= now:
            self._forget_oldest(channel, past)
        if not past:
            self._forget_channel(channel)

    def _make_room(self, newest: str) -> None:
        while self.bytes > self._max_bytes:
            largest = self._by_size.largest()
            if largest is not None:
                self._forget_oldest(largest, self._past[largest])
                continue
            oldest = next(iter(self._past))
            if oldest == newest:
                return  # its one event is the newest of all
            self._forget_channel(oldest)

    def _forget_oldest(self, channel: str, past: _Past) -> None:
        self._release(past.drop_oldest())
        if len(past) > 1:
            self._by_size.set(channel, past.size)
        else:
            self._by_size.discard(channel)

    def _forget_channel(self, channel: str) -> None:
        past = self._past.pop(channel)
        self._by_size.discard(channel)
        self.bytes -= _CHANNEL_OVERHEAD
        while past:
            self._release(past.drop_oldest())
        self._set_floor(channel, past.floor)

    def _hold(self, past: _Past, event: Event) -> None:
        past.size += len(event.frame) + _ENTRY_OVERHEAD
        self.bytes += _ENTRY_OVERHEAD
        if not event.holders:
            self.bytes += len(event.frame) + _EVENT_OVERHEAD
            self.events += 1
        event.holders += 1

    def _release(self, event: Event) -> None:
        event.holders -= 1
        self.bytes -= _ENTRY_OVERHEAD
        if not event.holders:
            self.bytes -= len(event.frame) + _EVENT_OVERHEAD
            self.events -= 1
            if self.on_forgotten is not None:
                self.on_forgotten(event)

    def _set_floor(self, channel: str, seq: int | None) -> None:
        self._floors[channel] = seq
        self._floors.move_to_end(channel)
        if len(self._floors) > FLOORS:
            # Better a gap told that was none than one hidden. (Where the start is unknown, so it stays.)
            _, forgotten = self._floors.popitem(last=False)
            if self._start is not None and forgotten is not None:
                self._start = max(self._start, forgotten)


def _each_once(events: Iterable[Event]) -> Iterator[Event]:
    last = None
    for event in events:
        if event is not last and (last is None or event.seq != last.seq):
            yield event
        last = event
