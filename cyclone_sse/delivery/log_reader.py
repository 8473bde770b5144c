"""Reads the log of all events for a client of patterns.

A pattern has no history of its own: the log is read from the client's position on, and the channels of each
event are matched. Each call matches a limited number of names, since clients choose patterns and positions;
the rest is read in other turns of the reactor. Events that were dropped before they were read are in the log
of losses, and are reported as a gap of the pattern. Plain Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cyclone_sse.delivery.batch import BATCH_BYTES, BATCH_EVENTS, Batch, Step
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.losses import Missing
from cyclone_sse.delivery.pattern_index import PatternIndex

NAMES = 500  # names that are matched in one reading, fewer if that costs more: some milliseconds


class LogReader:
    """A position in the log, for a client of these patterns and channels.

    after: where it starts. known: floors of the channels that were reported, or are not to be; those that are
    reported are added. ignored: of the patterns only what is dropped after the loss with this key is
    reported.
    """

    def __init__(
        self,
        history: History,
        channels: Iterable[str],
        patterns: PatternIndex,
        after: int,
        *,
        known: dict[str, int | None] | None = None,
        ignored: int | None = None,
    ) -> None:
        self._history = history
        self._patterns = patterns
        names = list(channels)
        self._mine = frozenset(name for name in names if name in patterns)
        self._channels = [name for name in names if name not in self._mine]
        self._exact = frozenset(self._channels)
        self.after = after
        assert history.losses is not None
        self._losses = history.losses
        self._loss_key = self._losses.key_at(after) if ignored is None else ignored
        self._known = {} if known is None else known
        # Likewise, of channels of which nothing is known.
        self._start: int | None = None if ignored is None else history.start
        self._partial: tuple[int, int, bool] | None = None  # an event, names looked at, whether one matched

    def next(self) -> Step:
        """Read on. Returns the next events, and the names with gaps before them.

        A call that has matched as many names as it may can return neither gaps nor events before the end.
        """
        gaps = self._new_gaps()
        looked_at = 0
        for key, loss in self._losses.after(self._loss_key):
            if looked_at >= NAMES:
                return Step(gaps, None, False)  # gaps are reported before the events after them
            looked_at += self._patterns.cost_of(loss.channel)
            self._loss_key = key
            if loss.floor > self.after:
                for name in self._mine.intersection(self._patterns.matching(loss.channel)):
                    gaps[name] = self._missing(loss.channel, loss.floor).joined(gaps.get(name))
        events: list[Event] = []
        size = 0
        for event in self._history.log_after(self.after):
            if looked_at >= NAMES or size >= BATCH_BYTES or len(events) == BATCH_EVENTS:
                return _step(gaps, events, False)
            channels, matched = self._rest(event)
            compared, cost, found = self._match(event, channels, NAMES - looked_at)
            looked_at += cost
            matched = matched or found
            if compared < len(channels):
                self._partial = (event.seq, len(event.channels) - len(channels) + compared, matched)
                return _step(gaps, events, False)
            self._partial = None
            self.after = event.seq
            if matched:
                events.append(event)
                size += len(event.frame)
        return _step(gaps, events, True)

    def _new_gaps(self) -> dict[str, Missing]:
        gaps = {}
        for name in self._channels:
            floor = self._history.floor(name)
            if (floor is None or floor > self.after) and self._known.get(name, -1) != floor:
                self._known[name] = floor
                gaps[name] = self._missing(name, floor)
        start = self._history.start
        if start is not None and start > self.after and start != self._start:
            self._start = start
            gaps.update(dict.fromkeys(self._mine, Missing(start, start)))
        return gaps

    def _missing(self, channel: str, floor: int | None) -> Missing:
        return Missing.before(floor, self._history.since(self.after, (channel,)))

    def _rest(self, event: Event) -> tuple[Sequence[str], bool]:
        """The channels of the event that were not looked at yet, and whether one before them matched."""
        if self._partial is None or self._partial[0] != event.seq:
            return event.channels, False
        return event.channels[self._partial[1] :], self._partial[2]

    def _match(self, event: Event, channels: Iterable[str], most: int) -> tuple[int, int, bool]:
        """How many of these channels were compared, at what cost, and whether the client has one of them.

        most: the cost at which to stop. The event gets the patterns that match.
        """
        compared = cost = 0
        mine: set[str] = set()
        found = False
        for channel in channels:
            if cost >= most:
                break
            compared += 1
            cost += self._patterns.cost_of(channel)
            patterns = self._mine.intersection(self._patterns.matching(channel))
            if not patterns and channel not in self._exact:
                continue
            # Without this, the event of a channel that was cleared would be sent if another channel has it.
            if len(event.channels) == 1 or self._history.has(channel, event):
                found = found or channel in self._exact
                mine.update(patterns)
        for pattern in mine:
            if pattern not in event.patterns and pattern not in event.channels:
                event.patterns = (*event.patterns, pattern)
        return compared, cost, found or bool(mine)


def _step(gaps: Mapping[str, Missing], events: Sequence[Event], is_complete: bool) -> Step:
    return Step(gaps, Batch(events) if events else None, is_complete)
