"""Reads the histories of some channels, piece by piece, for a client that reconnects.

When a thousand clients reconnect at once they ask the same question, which is answered once: the answer is
kept until another event is published or dropped. Clients of patterns have a ``LogReader``. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cyclone_sse.delivery.batch import BATCH_BYTES, BATCH_EVENTS, Batch, Step
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.losses import UNKNOWN, Missing

ANSWERS = 32  # kept at a time


class Answer(NamedTuple):
    """The events of some channels after a position. is_complete: there is nothing after these events."""

    batch: Batch | None
    is_complete: bool


class Answers:
    """The last answers. clock: seconds that only grow, for the ages of events."""

    def __init__(self, history: History, clock: Callable[[], float]) -> None:
        self.history = history
        self.clock = clock
        self._kept: dict[tuple[int, tuple[str, ...]], Answer] = {}
        self._version = 0  # of the history, from which they are

    def after(self, after: int, channels: tuple[str, ...]) -> Answer:
        """The next events of these channels, all of which have some after the position."""
        if not channels:
            return Answer(None, True)
        if self._version != self.history.version:
            self._version = self.history.version
            self._kept.clear()
        answer = self._kept.get((after, channels))
        if answer is None:
            events, found, size = self.history.since(after, channels), list[Event](), 0
            for event in events:
                found.append(event)
                size += len(event.frame)
                if size >= BATCH_BYTES or len(found) >= BATCH_EVENTS:
                    break
            answer = Answer(Batch(found) if found else None, next(events, None) is None)
            if len(self._kept) >= ANSWERS:
                self._kept.clear()
            self._kept[after, channels] = answer
        return answer


class ChannelReader:
    """A position in the views of some channels.

    after: where it starts. known: floors that were reported, or are not to be; those that are reported are
    added. for_poll: whether to find the place of each gap, which only polls need.
    """

    def __init__(
        self,
        answers: Answers,
        channels: Sequence[str],
        after: int,
        known: dict[str, int | None],
        for_poll: bool = False,
    ) -> None:
        self._answers = answers
        self._history = answers.history
        self._channels = channels
        self.after = after
        self._known = known
        self._for_poll = for_poll

    def next(self) -> Step:
        """Read on. Returns the next events, and the gaps before them."""
        history = self._history
        gaps, missed = history.missed(self.after, self._channels, self._answers.clock())
        new = {}
        for name in gaps:
            floor = history.floor(name)
            if self._note_gap(name, floor):
                new[name] = UNKNOWN
                if self._for_poll:
                    new[name] = Missing.before(floor, history.since(self.after, (name,)))
        answer = self._answers.after(self.after, missed)
        if answer.batch is not None:
            self.after = answer.batch.seqs[-1]
        return Step(new, answer.batch, answer.is_complete)

    def _note_gap(self, channel: str, floor: int | None) -> bool:
        """Note that this gap is reported; False if it was, or is not to be."""
        if channel in self._known and self._known[channel] == floor:
            return False
        self._known[channel] = floor
        return True
