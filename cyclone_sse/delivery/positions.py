"""The positions of the channels of one client that catches up, and the channels to read next.

Mostly all channels of a client have the same position. Channels that were added to an open stream have their
own: those that are furthest behind are read up to the position of the next ones, and then together with
these. So each event is read once, and the past of an added channel comes before what is new.

More is read only when no event waits for the client any more, so that what waits is always of one group of
channels. If these events are dropped, only the channels of that group go back, and no other event comes
twice. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cyclone_sse.delivery.batch import Batch, Step
from cyclone_sse.delivery.channel_reader import Answers, ChannelReader
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.log_reader import LogReader
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.starting_point import Start

Reader = ChannelReader | LogReader


class Readers:
    """What reads the history for clients. clock: seconds that only grow. patterns: see Resume."""

    def __init__(
        self, history: History, clock: Callable[[], float], patterns: PatternIndex | None = None
    ) -> None:
        self.history = history
        self.answers = Answers(history, clock)
        self._patterns = patterns

    def has_pattern(self, channels: Iterable[str]) -> bool:
        """Whether any of these is a pattern, for which the log is read."""
        return self._patterns is not None and any(name in self._patterns for name in channels)

    def start(
        self,
        channels: Sequence[str],
        after: int,
        ignored: int | None,
        known: dict[str, int | None],
        for_poll: bool,
    ) -> Reader:
        """The reader of some channels after a position.

        It reports gaps, except those of the floors in ``known``, and of patterns those up to the loss with
        the key ``ignored``.
        """
        if self._patterns is not None and self.has_pattern(channels):
            return LogReader(self.history, channels, self._patterns, after, known=known, ignored=ignored)
        return ChannelReader(self.answers, channels, after, known, for_poll)


class Positions:
    """The positions of the channels. sent: those of which events may wait in the client's queue.

    read: the channels of the last step. for_poll: whether the client is a poll.
    """

    # On the class: mostly all channels have the same position, and the first answer is the last.
    before = reached = 0  # the positions before and after the last step
    _common: int | None = None  # the position of all channels; None: each has its own
    # Positions from which nothing that was missing is reported, and the key of the last loss at that time.
    _quiet: Mapping[str, tuple[int, int]] = {}
    # Of those that are furthest behind: the channels, and the position up to which they are read alone.
    _reader: Reader | None = None
    _group: tuple[str, ...] = ()
    _until: int | None = None  # the present

    def __init__(self, sent: Iterable[str], readers: Readers, for_poll: bool = False) -> None:
        self._history = readers.history
        self._start_reader = readers.start
        self._for_poll = for_poll
        self._at: dict[str, int] = {}  # of each channel that is to be read, where they differ
        self._sent = self.read = tuple(sent)  # read: last
        self._known: dict[str, int | None] = {}  # floors that were reported, or are not to be

    def ignore_unknown(self, channels: Iterable[str]) -> None:
        """Report no gap for channels that are not known to be complete."""
        floor = self._history.floor
        self._known.update((name, None) for name in channels if floor(name) is None)

    def be_quiet(self, channels: Iterable[str], after: int) -> None:
        """Report no gap for events of these channels that are missing already. after: where they start."""
        for name in channels:
            self._known[name] = self._history.floor(name)
        losses = self._history.losses
        quiet = after, 0 if losses is None else losses.last_key
        self._quiet = {**self._quiet, **dict.fromkeys(channels, quiet)}

    def join(self, channels: Iterable[str]) -> None:
        """Add channels of which events may wait too."""
        self._sent += tuple(channels)

    def add(self, channels: Sequence[str], start: Start, present: int) -> None:
        """Add channels that start here. present: the client needs nothing newer than this of the others."""
        # An id of another process may be ahead of this one. Without this, the other channels would be read
        # together with its channel only from there on.
        after = min(start.after, present)
        self._set_apart()
        for name in channels:
            self._at[name] = after
            self._known.pop(name, None)
        if not start.reports_gap:
            self.be_quiet(channels, after)
        self._reader = None

    def keep(self, channels: Collection[str]) -> None:
        """Leave out all other channels."""
        self._at = {name: at for name, at in self._at.items() if name in channels}
        self._sent = tuple(name for name in self._sent if name in channels)
        self._reader = None

    def go_back(self, position: int) -> None:
        """Read the channels of which events may wait from this position on."""
        if self._at:
            self._at.update(dict.fromkeys(self._sent, position))
        else:
            self._common = position
        self._reader = None

    def are_all_at(self, position: int) -> bool:
        """Whether all channels have this position."""
        return self._common == position if not self._at else all(at == position for at in self._at.values())

    @property
    def reader(self) -> Reader:
        """The reader of the channels that are furthest behind."""
        return self._reader or self._start_next()

    def next(self) -> Step:
        """Read on. The step is complete if nothing is left of any channel."""
        reader = self._reader or self._start_next()
        self.before = reader.after
        step = reader.next()
        at, until = reader.after, self._until
        self.read = self._group
        if until is not None and (step.is_complete or at >= until):
            batch = step.batch
            if batch is not None and batch.seqs[-1] > until:
                events = [event for event in batch.events if event.seq <= until]
                batch = Batch(events) if events else None
            step, at = Step(step.gaps, batch, False), until
            self._reader = None
        self.reached = at
        if self._at:
            self._at.update(dict.fromkeys(self._group, at))
        else:
            self._common = at
        return step

    def note_sent(self) -> None:
        """Note that the events read last are being sent: no others wait for the client."""
        self._sent = self.read

    def _set_apart(self) -> None:
        """Give each channel a position of its own."""
        if self._common is not None:
            self._at, self._common = dict.fromkeys(self._sent, self._common), None

    def _start_next(self) -> Reader:
        after, self._group, self._until = self._common, self._sent, None
        if after is None:
            positions = sorted(set(self._at.values()))
            after, self._group = positions[0], tuple(self._at)
            if len(positions) > 1:
                self._until = positions[1]
                self._group = tuple([name for name, at in self._at.items() if at == after])
        ignored = self._ignored_until(after)
        self._reader = self._start_reader(self._group, after, ignored, self._known, self._for_poll)
        return self._reader

    def _ignored_until(self, after: int) -> int | None:
        """The key of the last loss of patterns that is not to be reported."""
        keys = []
        for name in self._group if self._quiet else ():
            position, key = self._quiet.get(name, (None, 0))
            if position != after:
                return None
            keys.append(key)
        return min(keys, default=None)
