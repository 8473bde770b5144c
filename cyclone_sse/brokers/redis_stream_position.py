"""A position in a Redis stream, and the losses that a survey of the stream shows there. Plain Python.

When something is lost, it is detected here::

    the entry read last is    the stream went back, its master died before a replica had it all, and was
      not there, older are      written again
    more were added than      entries were trimmed that this server has not read
      are there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heappushpop
from typing import NamedTuple

from cyclone_sse.delivery.events import seq_at

BEGINNING = b"0-0"  # before every entry


class Survey(NamedTuple):
    """The facts that Redis reports about a whole stream.

    first: the id of the oldest entry that it holds. last: the greatest id that it ever had. length: entries
    that it holds. added: how many it ever had; deleted: the greatest id that was deleted, other than by
    trimming; both None before Redis 7.0.
    """

    first: bytes | None
    last: bytes
    length: int
    added: int | None
    deleted: bytes | None = None

    def may_hold(self, seq: int) -> bool:
        """Whether there may be an entry of this position."""
        return self.first is not None and seq_of(self.first) <= seq <= seq_of(self.last)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream.

    last: the id of the last entry read. count: how many entries the stream had had up to that one, if that is
    known.
    """

    last: bytes = BEGINNING
    count: int | None = None

    @property
    def seq(self) -> int:
        """The position of the last entry read."""
        return seq_of(self.last)

    def was_rewritten(self, survey: Survey, holds: bool) -> bool:
        """Whether the stream has lost entries that we have read, although it has the same tag.

        holds: whether the last entry read is still there.
        """
        last = self.seq
        if seq_of(survey.last) < last:
            return True
        if survey.added is not None and self.count is not None:
            held_after = survey.length if survey.first is None or seq_of(survey.first) > last else 0
            if survey.added < self.count + held_after:
                return True
        if holds or self.last == BEGINNING or survey.first is None or seq_of(survey.first) > last:
            return False
        return survey.deleted is None or seq_of(survey.deleted) < last  # else that entry alone was deleted

    def was_trimmed(self, survey: Survey) -> bool:
        """Whether entries after our position were trimmed before they were read.

        None were if an older entry is still there. Otherwise all entries that the stream still has were added
        since our position.
        """
        if survey.first is not None and seq_of(survey.first) <= self.seq:
            return False
        if survey.added is not None and self.count is not None:
            return survey.added - self.count > survey.length
        return seq_of(survey.last) != self.seq and not (self.last == BEGINNING and survey.length)

    def after_reading(self, ids: Sequence[bytes], end: Survey | None) -> Position:
        """Where to continue after these entries. end: the survey, if they are all that there are."""
        last = ids[-1] if ids else self.last
        if end is not None:
            return Position(last, end.added)
        return Position(last, None if self.count is None else self.count + len(ids))

    def after_trimming(self, survey: Survey) -> Position:
        """Where to continue when entries were trimmed."""
        last = survey.last if survey.first is None else self.last
        return Position(last, None if survey.added is None else survey.added - survey.length)

    def lag(self, survey: Survey) -> int | None:
        """How many entries are not read yet, if Redis counts them."""
        if survey.added is None or self.count is None:
            return None
        return max(0, survey.added - self.count)


class Acknowledged:
    """The entries that this server has added, and has not read yet. size: how many the stream keeps.

    Without these, entries that a failover has lost before any server could read them would go unnoticed,
    although their publishers were answered that they are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def __len__(self) -> int:
        return len(self._seqs)

    def clear(self) -> None:
        """Forget them: the stream is read from another place on."""
        self._seqs: list[int] = []  # a heap: another master's clock may be behind
        self._has_lost = False

    def add(self, ids: Sequence[bytes], read: int) -> None:
        """Note entries that were added. read: the position of the last entry read."""
        for seq in map(seq_of, ids):
            if seq <= read:
                continue
            if len(self._seqs) < self._size:
                heappush(self._seqs, seq)
            else:  # without this, they would fill the memory while the stream cannot be read
                heappushpop(self._seqs, seq)

    def pop_read(self, ids: Sequence[bytes], survey: Survey) -> bool:
        """Remove those that belong to the entries read now. Returns whether one of them is not there; then
        also each further call does so, until ``clear``.
        """
        if self._seqs and ids:
            found, last = set(map(seq_of, ids)), seq_of(ids[-1])
            # Up to these, some may have been deleted alone, or trimmed, which is noticed otherwise.
            gone = max(seq_of(survey.deleted or BEGINNING), seq_of(survey.first or BEGINNING))
            while self._seqs and self._seqs[0] <= last:
                seq = heappop(self._seqs)
                self._has_lost = self._has_lost or (seq > gone and seq not in found)
        return self._has_lost


def seq_of(id: bytes) -> int:
    """The position of an entry."""
    ms, _, n = id.partition(b"-")
    return seq_at(int(ms), int(n))
