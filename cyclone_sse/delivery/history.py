"""The history: past events in bounded memory, for clients that reconnect after seconds or minutes.

Each channel has a *floor*, the position after which no event is missing. When events are dropped (a full
channel, age, the limit of all channels, an upstream that was away), floors are raised, and a client whose
position is below a floor receives a gap.

There is one log of all events in id order, and for each channel a view of the log. Clients of channels read
the views; clients of patterns read the log, since a pattern has no history of its own. Appending and dropping
cost O(1) for each channel. A question costs a binary search for each channel, and a step for each event in
the answer. The bytes of an event are held and counted once, for all of its channels, and are freed when the
last channel drops the event. Plain Python: positions are the ``seq`` of events, and the time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from heapq import merge
from operator import attrgetter

from cyclone_sse.delivery.backlog import Backlog
from cyclone_sse.delivery.drop_order import ByAge, BySize
from cyclone_sse.delivery.event_log import EventLog
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.expiring import Expiring
from cyclone_sse.delivery.floors import Floors
from cyclone_sse.delivery.losses import Losses
from cyclone_sse.delivery.rising_floors import RisingFloors
from cyclone_sse.delivery.spreading import Spreading
from cyclone_sse.delivery.views import (
    CHANNEL_OVERHEAD,
    ENTRY_OVERHEAD,
    HistoryFigures,
    Limits,
    View,
    each_once,
    pop_each,
)
from cyclone_sse.slices import MANY

_seq = attrgetter("seq")


class History:
    """The past events of all channels.

    limits: returns the limits of a channel. max_bytes: the limit of all channels together; the largest
    channels drop their oldest events first, and the newest event of all is kept. start: the floor of unknown
    channels; None if a channel is complete only after ``raise_floor``. log_losses: whether to record dropped
    events, for clients of patterns.
    """

    def __init__(
        self, limits: Callable[[str], Limits], max_bytes: int, start: int | None, log_losses: bool = False
    ) -> None:
        self._limits = limits
        self._max_bytes = max_bytes
        self._floors = Floors(start)  # of channels without events
        self.rising = RisingFloors(self.raise_floor)
        self._log = EventLog(self._note_released)
        self._views: dict[str, View] = {}
        self._discarded: Backlog[View] = Backlog()  # to be freed
        self._by_age = ByAge()
        self._by_size = BySize()  # channels with more than one event
        self._expiring = Expiring()
        self._spreading = Spreading()
        self.losses = Losses() if log_losses else None
        self.on_forgotten: Callable[[Event], None] | None = None  # called when no channel holds it any more
        self._bytes = 0  # of the channels and their entries, as accounted
        self.version = 0  # changes whenever an answer may change
        self.last = 0  # the position of the newest event that was ever held

    @property
    def bytes(self) -> int:
        """The bytes that are held at present, as accounted."""
        return self._bytes + self._log.bytes

    @property
    def is_overfull(self) -> bool:
        """Whether there is still too much after one call. The newest event stays, however large it is."""
        return self.bytes > self._max_bytes and len(self._log) > 1

    @property
    def events(self) -> int:
        """The number of events, each counted once."""
        return len(self._log)

    def figures(self) -> HistoryFigures:
        """The figures of this moment."""
        return HistoryFigures(self.bytes, len(self._log), len(self._views), len(self._floors))

    # Publishing.

    def skip(self, event: Event) -> None:
        """Note an event that is not kept, and causes no gap."""
        self.last = max(self.last, event.seq)

    def append(self, event: Event, now: float) -> None:
        """Keep an event in all its channels. now: seconds of a monotonic clock."""
        self._add(event, now)
        event.channels = tuple([self._append_to_channel(name, event) for name in event.channels])
        self._log.drop(event)
        if self.bytes > self._max_bytes:
            self._make_room()

    def spread(self, event: Event, now: float) -> Iterator[None]:
        """Do the same as ``append`` in slices. The event is part of every answer from now on."""
        self._add(event, now)
        self._spreading.start(event)
        return self._spread(event)

    def _spread(self, event: Event) -> Iterator[None]:
        names: list[str] = []
        for number, name in enumerate(event.channels):
            if not number % MANY:
                if number:
                    self._make_room()
                    yield
                if event not in self._spreading:
                    return  # everything was forgotten before this slice
            names.append(self._append_to_channel(name, event))
        event.channels = tuple(names)
        self._spreading.finish(event)
        self._expiring.set(event)  # again: it may have expired before all channels had it
        self._log.drop(event)
        self._make_room()

    def _add(self, event: Event, now: float) -> None:
        self.version += 1
        event.published_at = now
        self.last = max(self.last, event.seq)
        self._log.add(event)
        self._expiring.set(event)

    def _append_to_channel(self, name: str, event: Event) -> str:
        """Keep the event in one channel. Returns the channel's own copy of its name."""
        view = self._views.get(name)
        if view is None:
            limits = self._limits(name)
            if not limits.size:
                self._set_floor(name, event.seq)
                self._note_loss(name, event.seq)
                return name
            floor = self._floors.of(name)
            if floor is not None and floor >= event.seq:
                return name  # the channel was cleared after it
            view = self._open_view(name, limits)
        elif view.floor is not None and view.floor >= event.seq:
            return name  # the same, and the channel has newer events by now
        else:
            self._by_age.of_ttl[view.limits.ttl].move_to_end(name)  # `renew`, without its call
            if view.events[0].published_at <= event.published_at - view.limits.ttl:
                self._expire(view, event.published_at)
        view.append(event)
        event.holders += 1
        self._bytes += ENTRY_OVERHEAD
        if len(view.events) > view.limits.size:
            self._forget_oldest(view)
        elif len(view.events) > 1:
            self._by_size.set(view.name, view.bytes)
        return view.name

    def _open_view(self, name: str, limits: Limits) -> View:
        view = self._views[name] = View(name, self._floors.pop(name), limits)
        self._by_age.add(view)
        self._bytes += CHANNEL_OVERHEAD + len(name)
        return view

    # Floors.

    def raise_floor(self, channel: str, seq: int) -> None:
        """Note that the channel is complete from this position on, and may not be before it."""
        view = self._views.get(channel)
        if view is None:
            self._set_floor(channel, seq)
        elif view.floor is None or view.floor < seq:
            view.floor = seq
        self._note_loss(channel, seq)

    def clear(self, start: int) -> None:
        """Drop all events; each channel is complete from this position on."""
        self._log = EventLog(self._note_released)
        self._discarded.add(pop_each(self._views))
        self._views = {}
        self._by_age = ByAge()
        self._spreading.clear()
        if self.losses is not None:
            self.losses = Losses()
        self._expiring = Expiring()
        self._by_size = BySize()
        self._floors = Floors(start)
        self.rising.clear()
        self.version += 1
        self._bytes = 0
        self.last = start

    def forget(self, channel: str) -> None:
        """Drop the channel and its floor: its events are no longer received."""
        view = self._views.get(channel)
        if view is not None:
            self._forget_view(view)
        self._floors.pop(channel)
        self.rising.forget(channel)

    def clear_channel(self, channel: str, seq: int) -> None:
        """Drop the events of a channel up to this position; clients with older positions receive a gap."""
        view = self._views.get(channel)
        if view is not None:
            self._forget_oldest(view, view.count_until(seq))
            self._forget_if_empty(view)
        self._spreading.leave_out(channel, seq)
        self.raise_floor(channel, seq)

    def is_held(self, event: Event, channels: frozenset[str]) -> bool:
        """Whether one of these channels has this event, or one with the same id, or is to get it."""
        held = self._log.get(event.seq)
        # Without this, the states of many channels would cost a step for each pair of a state and a channel.
        few: Collection[str] = () if held is None else min(channels, held.channels, key=len)
        return any(name in channels and self.has(name, held or event) for name in few)

    def has(self, channel: str, event: Event) -> bool:
        """Whether the channel has this event, or is to get it."""
        view = self._views.get(channel)
        return (view is not None and view.place(event) is not None) or self._spreading.is_for(event, channel)

    def floor(self, channel: str) -> int | None:
        """The position after which nothing of the channel is missing; None: not known to be complete."""
        view = self._views.get(channel)
        floor = view.floor if view is not None else self._floors.of(channel)
        if self.rising.waiting and (rising := self.rising.of(channel)):
            return max(floor or 0, rising)
        return floor

    @property
    def start(self) -> int | None:
        """The floor of unknown channels."""
        return self._floors.start

    # Resuming.

    def missed(
        self, seq: int, channels: Collection[str], now: float
    ) -> tuple[Collection[str], tuple[str, ...]]:
        """The channels with events missing after a position, and the channels that have events after it."""
        gaps, missed = [], []
        self._drop_expired(now)
        for channel in channels:
            view = self._views.get(channel)
            if view is not None:
                if view.events[0].published_at <= now - view.limits.ttl:
                    self._expire(view, now)
                    self._forget_if_empty(view)
                if view.events and view.events[-1].seq > seq:
                    missed.append(channel)
            floor = self.floor(channel)
            if floor is None or floor > seq:
                gaps.append(channel)
        if self._spreading.events:
            late = self._spreading.awaited_by(set(channels).difference(missed))
            missed += [channel for channel in channels if channel in late]
        return gaps, tuple(missed)

    def since(self, seq: int, channels: Collection[str]) -> Iterator[Event]:
        """The events of these channels after the position, each once, in id order.

        No event must be published while the iterator is read.
        """
        views = [self._views[name] for name in channels if name in self._views]
        parts = [view.after(seq) for view in views]
        if self._spreading.events:
            parts += [iter((event,)) for event in self._spreading.after(seq, channels)]
        if len(parts) == 1:
            return parts[0]
        return each_once(merge(*parts, key=_seq))

    def log_after(self, seq: int) -> Iterator[Event]:
        """All events after the position, in id order. No event must be published while they are read."""
        return self._log.after(seq)

    # Dropping.

    def forget_old(self, now: float, most: int = MANY) -> bool:
        """Drop channels all of whose events are too old, up to a maximum number of channels.

        True if there is more to drop: call this again in another turn of the reactor.
        """
        self._make_room()
        self._drop_expired(now)
        self._log.release_some(MANY)
        self._discarded.pop_some(MANY)
        for _ in range(most):
            view = self._by_age.overdue(now)
            if view is None:
                return self._expiring.has_over(now) or self._log.has_unheld or bool(self._discarded)
            self._forget_view(view)
        return True

    def renew_limits(self) -> Iterator[None]:
        """Apply changed limits to the channels with events, in slices: of each ttl, the oldest first."""
        for number, name in enumerate(self._by_age.names(), 1):
            view = self._views.get(name)
            if view is not None:
                self._renew(view)
            if not number % MANY:
                yield

    def _renew(self, view: View) -> None:
        limits = self._limits(view.name)
        if limits.ttl == view.limits.ttl:
            view.limits = limits
        else:
            self._by_age.remove(view)
            view.limits = limits
            self._by_age.add(view)
        self._forget_oldest(view, len(view.events) - view.limits.size)
        self._forget_if_empty(view)

    def _drop_expired(self, now: float) -> None:
        """Drop the events whose ``ttl`` is over. They cause no gap."""
        for event, name in self._expiring.pop_over(now, MANY):
            view = self._views.get(name)
            if view is not None and (at := view.place(event)) is not None:
                self._remove(view, at)
                self._forget_if_empty(view)

    def _expire(self, view: View, now: float) -> None:
        self._forget_oldest(view, view.count_published_until(now - view.limits.ttl))

    def _make_room(self) -> None:
        """Drop events until the limit is met; the next call continues if there are too many."""
        for _ in range(MANY):
            if self.bytes <= self._max_bytes:
                return
            if self._log.has_unheld:
                self._log.release_some(1)
                continue
            largest = self._by_size.largest()
            if largest is not None:
                self._forget_oldest(self._views[largest])
                continue
            view = self._by_age.least_recent()
            if view is None or len(self._log) == 1:
                return  # only the newest event of all is left
            if view.events[-1].seq != self.last:
                self._forget_view(view)
            else:  # an event that was spread came late to it: it is not the least recent
                self._by_age.renew(view)

    def _forget_oldest(self, view: View, count: int = 1) -> None:
        """Drop the oldest events of a channel, which raises its floor."""
        before = view.floor
        if count == 1:  # the usual case, with most publications
            self._log.drop(view.pop_first())
        elif count > 1:
            self._log.drop_all(view.pop_oldest(count))
        else:
            return
        self._note_removal(view, count)
        if view.floor is not None and view.floor != before:
            self._note_loss(view.name, view.floor)

    def _remove(self, view: View, index: int) -> None:
        """Drop an event whose ``ttl`` is over."""
        event = view.events.pop(index)
        view.bytes -= len(event.frame) + ENTRY_OVERHEAD
        self._log.drop(event)
        self._note_removal(view, 1)

    def _note_removal(self, view: View, count: int) -> None:
        self.version += 1
        self._bytes -= ENTRY_OVERHEAD * count
        if len(view.events) > 1:
            self._by_size.set(view.name, view.bytes)
        else:
            self._by_size.discard(view.name)

    def _forget_if_empty(self, view: View) -> None:
        if not view.events:
            self._forget_view(view)

    def _forget_view(self, view: View) -> None:
        self._forget_oldest(view, len(view.events))
        del self._views[view.name]
        self._by_age.remove(view)
        self._bytes -= CHANNEL_OVERHEAD + len(view.name)
        self._set_floor(view.name, view.floor)

    def _note_released(self, event: Event) -> None:
        self._expiring.clear(event)
        if self.on_forgotten is not None:
            self.on_forgotten(event)

    def _note_loss(self, channel: str, floor: int) -> None:
        if self.losses is not None:
            self.losses.note(channel, floor, self.last)

    def _set_floor(self, channel: str, seq: int | None) -> None:
        forgotten = self._floors.set(channel, seq)
        if forgotten is not None and self.losses is not None:
            self.losses.forget(forgotten)
