"""The memory of all answers that their clients have not read yet.

An answer may have megabytes: a state, the statistics of very many channels, what a long poll has missed. What
does not fit into the socket waits in memory. Without a limit, a thousand clients that ask and do not read
would use gigabytes. Beyond the limit the connections are cut off whose answers have waited longest.
"""

from __future__ import annotations

from typing import Protocol

MAX_UNREAD = 64 * 2**20  # bytes


class Abortable(Protocol):
    """A transport."""

    def abortConnection(self) -> object:
        """End the connection at once."""


class UnreadAnswers:
    """The answers of one server. limit: bytes; a single answer may have more."""

    def __init__(self, limit: int = MAX_UNREAD) -> None:
        self._limit = limit
        self._sizes: dict[Abortable, int] = {}  # by transport, in the order in which they began to wait
        self.bytes = 0

    def add(self, transport: Abortable, size: int) -> None:
        """Note that so many bytes wait in the transport, in addition to those that were noted."""
        self._sizes[transport] = self._sizes.get(transport, 0) + size
        self.bytes += size
        while self.bytes > self._limit and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self.discard(oldest)
            oldest.abortConnection()

    def discard(self, transport: Abortable) -> None:
        """Note that the bytes were read, or that the client is gone."""
        self.bytes -= self._sizes.pop(transport, 0)
