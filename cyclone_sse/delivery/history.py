"""Bounded memory of past events: what came after a position in these channels?

It must answer that for a client that returns after seconds or minutes, and say honestly when it
cannot: every channel has a *floor*, the position after which nothing is missing. Whatever makes
the memory forget (a full channel, age, the bound of the whole process, an upstream that was
away) raises floors, and a client that comes from below a floor is told of the gap.

An append costs O(1). A question costs what it answers, plus a step for each channel. Plain
Python: positions are the ``seq`` of events, and the time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from cyclone_sse.delivery.events import Event

SIZE = 100  # events for each channel
TTL = 300.0  # seconds
MAX_BYTES = 64 * 1024 * 1024  # for the whole process
FLOORS = 100_000  # channels without events whose floor is still known, about 15 MB

UNKNOWN = 1 << 80  # the floor of a channel that nobody has listened to: above every position

_EVENT_OVERHEAD = 400  # bytes of an event besides its frame: id, deque slot, objects
_CHANNEL_OVERHEAD = 1000  # bytes of a channel besides its events: an empty deque is 600


@dataclass(slots=True)
class _Past:
    """The events of one channel, oldest first, each with the time it was taken."""

    floor: int
    events: deque[tuple[float, Event]] = field(default_factory=deque)
    size: int = _CHANNEL_OVERHEAD


def _cost(event: Event) -> int:
    return len(event.frame) + _EVENT_OVERHEAD


class History:
    """The past of all channels.

    size: events kept for each channel; 0 keeps none. ttl: seconds they are kept. max_bytes:
    bound for all channels together; the least recently published channel goes first. start: the
    floor of channels never heard of; UNKNOWN where a channel is complete only after ``begin``.
    """

    def __init__(
        self, size: int = SIZE, ttl: float = TTL, max_bytes: int = MAX_BYTES, start: int = UNKNOWN
    ) -> None:
        self._size = size
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._start = start
        self._past: OrderedDict[str, _Past] = OrderedDict()  # least recently published first
        self._floors: OrderedDict[str, int] = OrderedDict()  # of channels without events
        self.bytes = 0  # held at present, as accounted

    def append(self, channel: str, event: Event, now: float) -> None:
        """Keep an event of the channel; now: seconds, from a clock that goes forward."""
        past = self._past.get(channel)
        if past is None:
            past = self._past[channel] = _Past(self._floors.pop(channel, self._start))
            self.bytes += past.size
        else:
            self._past.move_to_end(channel)
        past.events.append((now, event))
        past.size += _cost(event)
        self.bytes += _cost(event)
        if len(past.events) > self._size:
            self._forget_oldest(past)
            if not past.events:
                self._forget_channel(channel)
        while self.bytes > self._max_bytes and self._past:
            self._forget_channel(next(iter(self._past)))

    def begin(self, channel: str, seq: int) -> None:
        """From this position on the channel is complete; before it, nobody knows."""
        past = self._past.get(channel)
        if past is not None:
            past.floor = seq if past.floor == UNKNOWN else max(past.floor, seq)
        else:
            self._set_floor(channel, seq)

    def end(self, channel: str) -> None:
        """The channel is not listened to any more: forget it whole."""
        past = self._past.pop(channel, None)
        if past is not None:
            self.bytes -= past.size
        self._floors.pop(channel, None)

    def floor(self, channel: str) -> int:
        """The position after which nothing of the channel is missing."""
        past = self._past.get(channel)
        return past.floor if past is not None else self._floors.get(channel, self._start)

    def since(self, seq: int, channels: Iterable[str], now: float) -> list[Event]:
        """The events held of these channels after the position, each once, in id order."""
        found: dict[int, Event] = {}
        for channel in channels:
            past = self._past.get(channel)
            if past is None:
                continue
            self._expire(channel, past, now)
            for _, event in reversed(past.events):
                if event.seq <= seq:
                    break
                found[event.seq] = event
        return [found[key] for key in sorted(found)]

    def gaps(self, seq: int, channels: Iterable[str], now: float) -> Collection[str]:
        """The channels of which something after the position may be missing."""
        gaps = []
        for channel in channels:
            past = self._past.get(channel)
            if past is not None:
                self._expire(channel, past, now)
            if self.floor(channel) > seq:
                gaps.append(channel)
        return gaps

    def sweep(self, now: float) -> None:
        """Forget the channels whose events have all become too old."""
        while self._past:
            channel, past = next(iter(self._past.items()))
            if past.events[-1][0] + self._ttl > now:
                return
            self._forget_channel(channel)

    def _expire(self, channel: str, past: _Past, now: float) -> None:
        while past.events and past.events[0][0] + self._ttl <= now:
            self._forget_oldest(past)
        if not past.events:
            self._forget_channel(channel)

    def _forget_oldest(self, past: _Past) -> None:
        _, event = past.events.popleft()
        past.floor = max(past.floor, event.seq)
        past.size -= _cost(event)
        self.bytes -= _cost(event)

    def _forget_channel(self, channel: str) -> None:
        past = self._past.pop(channel)
        self.bytes -= past.size
        last = past.events[-1][1].seq if past.events else 0
        self._set_floor(channel, max(past.floor, last))

    def _set_floor(self, channel: str, seq: int) -> None:
        self._floors[channel] = seq
        self._floors.move_to_end(channel)
        if len(self._floors) > FLOORS:
            # Better a gap told that was none than one hidden.
            _, forgotten = self._floors.popitem(last=False)
            self._start = max(self._start, forgotten)
