"""The memory that all request bodies under way may use together.

The memory for a body that is not small is reserved before the body is read, and released when its request has
been answered; a body for which there is no memory waits, unread. Without this, three hundred clients that
send all but the last byte of a large body would use three hundred times its size. One network may use a
quarter of the memory, so that the publishers of other networks need not wait for it.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Protocol

BUDGET = 64 * 2**20  # bytes
SMALL = 16 * 1024  # bytes: the size of a head, which needs no reservation either


class Sender(Protocol):
    """A connection that receives a body."""

    def continue_body(self) -> None:
        """Read the body: there is memory for it now."""


class BodyBudget:
    """The bodies of one server. limit: bytes."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = limit
        self._network_limit = limit // 4
        self._taken: dict[Sender, tuple[str, int]] = {}
        self._waiting: dict[str, deque[tuple[Sender, int]]] = {}  # by network, each in the order it came
        self._of_network: Counter[str] = Counter()
        self.used = 0  # bytes

    def reserve(self, sender: Sender, network: str, size: int) -> bool:
        """Reserve memory for a body of this size. False if there is none; the sender then waits."""
        queue = self._waiting.get(network)
        if not queue and self._fits(network, size):
            self._add(sender, network, size)
            return True
        self._waiting.setdefault(network, deque()).append((sender, size))
        return False

    def release(self, sender: Sender, network: str) -> None:
        """Release the memory of the body, or stop waiting for it."""
        taken = self._taken.pop(sender, None)
        if taken is None:
            queue = self._waiting.get(network, deque())
            self._waiting[network] = deque(each for each in queue if each[0] is not sender)
        else:
            self.used -= taken[1]
            self._of_network[network] -= taken[1]
        for name in (network, *[each for each in self._waiting if each != network]):
            self._serve(name)

    def _serve(self, network: str) -> None:
        """Resume the waiting senders of this network for which there is memory."""
        queue = self._waiting.get(network)
        while queue and self._fits(network, queue[0][1]):
            sender, size = queue.popleft()
            self._add(sender, network, size)
            sender.continue_body()
        if not queue:
            self._waiting.pop(network, None)
        if not self._of_network[network]:
            del self._of_network[network]

    def _fits(self, network: str, size: int) -> bool:
        """Whether there is memory for a body. One that is larger than the limit fits if there is no other."""
        mine = self._of_network[network]
        return (not self.used or self.used + size <= self._limit) and (
            not mine or mine + size <= self._network_limit
        )

    def _add(self, sender: Sender, network: str, size: int) -> None:
        self._taken[sender] = (network, size)
        self.used += size
        self._of_network[network] += size
