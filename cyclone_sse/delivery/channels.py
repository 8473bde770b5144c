"""Who listens to which channel.

Both ways are kept: a channel knows its subscribers, a subscriber its channels. Every change
says whether it mattered (first in, last out), so that nobody looks twice. Joining and leaving
cost O(1) for each channel. Knows nothing of sockets; a subscriber is anything with ``channels``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, KeysView
from itertools import chain
from typing import Generic, Protocol, TypeVar


class Listener(Protocol):
    """What the registry needs of a subscriber: a place for the names of its channels."""

    channels: tuple[str, ...]


S = TypeVar("S", bound=Listener)


class Channels(Generic[S]):
    """The registry: channel -> subscribers, in the order in which they came."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[S, None]] = {}

    def add(self, subscriber: S, channels: Iterable[str]) -> list[str]:
        """Let the subscriber hear these channels too; gives those that had nobody before."""
        first = []
        # Ten thousand subscribers of one channel share one copy of its name.
        names = tuple(map(sys.intern, channels))
        for channel in names:
            present = self._subscribers.get(channel)
            if present is None:
                present = self._subscribers[channel] = {}
                first.append(channel)
            present[subscriber] = None
        subscriber.channels = tuple(dict.fromkeys(subscriber.channels + names))
        return first

    def remove(self, subscriber: S, channels: Iterable[str]) -> list[str]:
        """The reverse of add; gives those that have nobody any more."""
        last = []
        leaving = set(channels) & set(subscriber.channels)
        for channel in leaving:
            present = self._subscribers[channel]
            del present[subscriber]
            if not present:
                del self._subscribers[channel]
                last.append(channel)
        subscriber.channels = tuple(name for name in subscriber.channels if name not in leaving)
        return last

    def listening(self, channels: Iterable[str]) -> list[S]:
        """The subscribers of any of these channels, each once, as of now."""
        present = [self._subscribers[channel] for channel in channels if channel in self._subscribers]
        if len(present) == 1:
            return list(present[0])
        return list(dict.fromkeys(chain.from_iterable(present)))

    def names(self) -> KeysView[str]:
        """The channels that have subscribers."""
        return self._subscribers.keys()

    def stats(self) -> list[tuple[str, int]]:
        """Each channel that has subscribers, and how many."""
        return [(channel, len(present)) for channel, present in self._subscribers.items()]
