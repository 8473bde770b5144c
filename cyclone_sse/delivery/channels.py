"""The subscribers of each channel, and the channels of each subscriber.

Each change returns the channels that got their first subscriber or lost their last one, so that callers need
no second look-up. Joining and leaving cost O(1) for each channel. Knows nothing of sockets; a subscriber is
any object with ``channels``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class _Subscriber(Protocol):
    """The part of a subscriber that the registry needs: the names of its channels."""

    channels: tuple[str, ...]


S = TypeVar("S", bound=_Subscriber)


class Channels(Generic[S]):
    """The registry: channel -> subscribers, in the order in which they came."""

    def __init__(self) -> None:
        # The value repeats the name, so that ten thousand subscribers share one copy. (`sys.intern` would
        # never free it in Python 3.12, and clients choose the names.)
        self._present: dict[str, tuple[str, dict[S, None]]] = {}

    def add(self, subscriber: S, channels: Iterable[str]) -> list[str]:
        """Subscribe to these channels too; returns those that had no subscribers before."""
        first, names = [], []
        for channel in channels:
            present = self._present.get(channel)
            if present is None:
                present = self._present[channel] = (channel, {})
                first.append(channel)
            name, subscribers = present
            subscribers[subscriber] = None
            names.append(name)
        subscriber.channels = tuple(dict.fromkeys((*subscriber.channels, *names)))
        return first

    def remove(self, subscriber: S, channels: Iterable[str] | None = None) -> list[str]:
        """Unsubscribe from these channels, by default all; returns those without subscribers now."""
        last = []
        mine = dict.fromkeys(subscriber.channels)
        for channel in subscriber.channels if channels is None else channels:
            if channel not in mine:
                continue
            del mine[channel]
            subscribers = self._present[channel][1]
            del subscribers[subscriber]
            if not subscribers:
                del self._present[channel]
                last.append(channel)
        subscriber.channels = tuple(mine)
        return last

    def of(self, channel: str) -> Mapping[S, None]:
        """The subscribers of this channel: the keys of the registry's own table, which changes with it."""
        present = self._present.get(channel)
        return {} if present is None else present[1]

    def count(self, channel: str) -> int:
        """How many subscribers the channel has."""
        return len(self.of(channel))

    def stats_of(self, channels: Iterable[str] | None = None) -> Iterator[tuple[str, int]]:
        """These channels, or all, with their numbers of subscribers; those without any are left out."""
        for channel in list(self._present if channels is None else channels):
            present = self._present.get(channel)
            if present is not None:
                yield channel, len(present[1])

    def stats(self) -> list[tuple[str, int]]:
        """The channels that have subscribers, with their numbers."""
        return list(self.stats_of())

    def names(self) -> list[str]:
        """The channels that have subscribers now, as a copy that can be read in slices."""
        return list(self._present)

    def __len__(self) -> int:
        return len(self._present)
