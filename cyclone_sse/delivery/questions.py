"""The events of some channels or patterns after a position, read piece by piece.

When a thousand clients reconnect at once they ask the same question, which is answered once: the answer is
kept until another event is published or dropped. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.log_reader import LogReader
from cyclone_sse.delivery.pattern_index import PatternIndex

BATCH_BYTES = 256 * 1024  # bytes taken from the history at a time
BATCH_EVENTS = 1000  # likewise: about 2 ms
ANSWERS = 32  # kept at a time


class Step(NamedTuple):
    """The next part of the events that a client missed.

    gaps: the channels of which more may be missing. batch: events, None if there are none. is_complete: there
    is nothing after them; otherwise the next call continues.
    """

    gaps: Collection[str]
    batch: Batch | None
    is_complete: bool


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


class ChannelQuestions:
    """The events of some channels after a position, from their views of the history.

    known: floors that were reported, or are not to be; those that are reported are added.
    """

    def __init__(
        self, answers: Answers, channels: Sequence[str], after: int, known: dict[str, int | None]
    ) -> None:
        self._answers = answers
        self._history = answers.history
        self._channels = channels
        self.after = after
        self._known = known

    def next(self) -> Step:
        """Read on. Returns the next events, and the gaps before them."""
        history = self._history
        gaps, missed = history.missed(self.after, self._channels, self._answers.clock())
        new = [name for name in gaps if self._note_gap(name, history.floor(name))] if gaps else ()
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


class PatternQuestions:
    """The events of patterns and channels after a position, from the log of all events.

    known: see ChannelQuestions. ignored: the key of the last loss that is not reported of the patterns.
    """

    def __init__(
        self,
        history: History,
        channels: Sequence[str],
        patterns: PatternIndex,
        after: int,
        *,
        known: dict[str, int | None],
        ignored: int | None,
    ) -> None:
        self._reader = LogReader(history, channels, patterns, after, known)
        if ignored is not None:
            self._reader.ignore_losses(ignored)

    @property
    def after(self) -> int:
        """The position that was reached."""
        return self._reader.after

    def next(self) -> Step:
        """Read on. Returns the next events, and the gaps before them."""
        gaps, events, is_complete = self._reader.read(BATCH_BYTES, BATCH_EVENTS)
        return Step(gaps, Batch(events) if events else None, is_complete)


Questions = ChannelQuestions | PatternQuestions
