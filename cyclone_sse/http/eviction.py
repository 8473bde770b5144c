"""Which connections to close when no descriptor is free: the idlest of the greediest network.

Knows when a connection became quiet and from which network it comes. Looks at a bounded number of
connections, and gives several at once, so that many new connections share the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Protocol, TypeVar

LOOK_AT = 5000  # connections: about 5 ms
AT_ONCE = 200  # connections given at a time


class Quiet(Protocol):
    """A connection on which the server waits. quiet_since: when it began to."""

    quiet_since: float


T = TypeVar("T", bound=Quiet)


def pick_idlest(
    connections: Iterable[T], network: Callable[[T], str], before: float
) -> list[tuple[T, float]]:
    """Pick connections to close, each with its ``quiet_since``; the first to close is the last in the list.

    network: of a connection. before: those that became quiet later are kept. After each pick the network that
    has most connections left is the next.
    """
    groups: dict[str, list[T]] = {}
    for connection in islice(connections, LOOK_AT):
        if connection.quiet_since <= before:
            groups.setdefault(network(connection), []).append(connection)
    for group in groups.values():
        group.sort(key=lambda each: each.quiet_since, reverse=True)
    sizes = [(-len(group), name) for name, group in groups.items()]
    heapify(sizes)
    picked: list[tuple[T, float]] = []
    while sizes and len(picked) < AT_ONCE:
        _, name = sizes[0]
        connection = groups[name].pop()
        picked.append((connection, connection.quiet_since))
        if groups[name]:
            heapreplace(sizes, (-len(groups[name]), name))
        else:
            heappop(sizes)
    picked.reverse()
    return picked
