"""The losses of channels (events that were dropped), in order, for clients of patterns.

A pattern has no floor of its own, but the channels that it matches do. Reading the losses since a position
visits only the channels that have dropped events since then. Plain Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.sorted_log import SortedLog

_BITS = 40  # losses after the same event that are distinguished


class Loss(NamedTuple):
    """A channel has dropped the events up to its floor."""

    channel: str
    floor: int


class Missing(NamedTuple):
    """The place of events that a channel has lost.

    due: the position of the first event that must not be sent before the gap. end: from here on nothing is
    missing. Both are 0 if that is unknown.
    """

    due: int
    end: int

    @classmethod
    def before(cls, floor: int | None, events: Iterator[Event]) -> Missing:
        """What a channel has lost up to its floor. events: those that it has."""
        if floor is None:
            return UNKNOWN
        first = next(events, None)
        return cls(floor if first is None else min(first.seq, floor), floor)

    def joined(self, other: Missing | None) -> Missing:
        """The place of these and of others."""
        return self if other is None else Missing(min(self.due, other.due), max(self.end, other.end))


UNKNOWN = Missing(0, 0)


class Losses:
    """The last loss of each channel. last_key: of the last loss so far."""

    def __init__(self) -> None:
        self._log: SortedLog[Loss] = SortedLog()
        self._keys: dict[str, int] = {}
        self.last_key = 0

    @staticmethod
    def key_at(seq: int) -> int:
        """The key before the losses of events after this position."""
        return seq << _BITS

    def note(self, channel: str, floor: int, newest: int) -> None:
        """Note a loss, in place of the channel's last one, unless that reached further. newest: the position
        of the newest event.
        """
        before = self.forget(channel)
        if before is not None:
            floor = max(floor, before.floor)
        self.last_key = max(self.last_key + 1, self.key_at(max(newest, floor)))
        self._keys[channel] = self.last_key
        self._log.append(self.last_key, Loss(channel, floor))

    def after(self, key: int) -> Iterator[tuple[int, Loss]]:
        """The losses after this key with their keys. Nothing must be noted while they are read."""
        return self._log.after(key)

    def forget(self, channel: str) -> Loss | None:
        """Forget the loss of a channel, and return it, if it has one."""
        key = self._keys.pop(channel, None)
        return None if key is None else self._log.pop(key)
