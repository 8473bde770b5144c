"""The memory that all request bodies under way may use together.

The memory for a body that is not small is reserved before the body is read, and released when its request has
been answered; a body for which there is no memory waits, unread. Without this, three hundred clients that
send all but the last byte of a large body would use three hundred times its size. One network may use a
quarter of the memory, so that the publishers of other networks need not wait for it.

The bodies of one network wait in the order in which they came. Memory that is released is first for its own
network, and then for the others in the order in which they began to wait; a network whose next body is too
large for the memory that is free does not block those behind it. A call costs O(log n) with n networks, and
as much again for each body that may now be read: without this, many networks whose clients leave together
would block the server for seconds.
"""

from __future__ import annotations

import enum
import sys
from collections import Counter, OrderedDict
from typing import Protocol

from cyclone_sse.http.first_fit import NEVER, FirstFit

BUDGET = 64 * 2**20  # bytes
SMALL = 16 * 1024  # bytes: the size of a head, which needs no reservation either


class BodyMemory(enum.Enum):
    """The memory of a sender for its body."""

    NONE = enum.auto()
    AWAITED = enum.auto()
    RESERVED = enum.auto()


class Sender(Protocol):
    """A connection that receives a body."""

    def continue_body(self) -> None:
        """Read the body: there is memory for it now."""


class BodyBudget:
    """The bodies of one server. limit: bytes."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = limit
        self._network_limit = limit // 4
        self._reserved: dict[Sender, int] = {}
        self._waiting: dict[str, OrderedDict[Sender, int]] = {}  # by network, each in the order it came
        self._next = FirstFit()  # the waiting networks, with the sizes of their next bodies
        self._of_network: Counter[str] = Counter()
        self.used = 0  # bytes

    def reserve(self, sender: Sender, network: str, size: int) -> BodyMemory:
        """Reserve memory for a body of this size; without any, it waits for ``continue_body``."""
        queue = self._waiting.get(network)
        if queue is not None:
            queue[sender] = size
        elif size <= self._free() and self._may_have(network, size):
            self._add(sender, network, size)
            return BodyMemory.RESERVED
        else:
            self._waiting[network] = OrderedDict({sender: size})
            self._serve(network)
        return BodyMemory.AWAITED

    def release(self, sender: Sender, network: str) -> None:
        """Release the memory of the body, or stop waiting for it."""
        size = self._reserved.pop(sender, 0)
        if not size and network in self._waiting:
            self._waiting[network].pop(sender, None)
        self.used -= size
        self._of_network[network] -= size
        self._serve(network)
        while (other := self._next.first(self._free())) is not None:
            self._serve(other)

    def _serve(self, network: str) -> None:
        """Resume the waiting senders of this network for which there is memory."""
        queue = self._waiting.get(network)
        while queue:
            sender, size = next(iter(queue.items()))
            may_have = self._may_have(network, size)
            if not may_have or size > self._free():
                self._next.set(network, size if may_have else NEVER)
                break
            del queue[sender]
            self._add(sender, network, size)
            sender.continue_body()
        else:
            self._waiting.pop(network, None)
            self._next.discard(network)
        if not self._of_network[network]:
            del self._of_network[network]

    def _free(self) -> int:
        """The memory that is free; without a limit if no memory is used, so that a body of any size fits."""
        return self._limit - self.used if self.used else sys.maxsize

    def _may_have(self, network: str, size: int) -> bool:
        """Whether this network may reserve this much more. Its first body may have any size."""
        mine = self._of_network[network]
        return not mine or mine + size <= self._network_limit

    def _add(self, sender: Sender, network: str, size: int) -> None:
        self._reserved[sender] = size
        self.used += size
        self._of_network[network] += size
