"""The choice of connections to close when no descriptor is free: the idlest of the largest network.

Knows when a connection became quiet, and its network. Compares a limited number of connections, and returns
several at once, so that many new connections share the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Protocol, TypeVar

LOOK_AT = 5000  # connections: about 5 ms
AT_ONCE = 200  # connections that are returned at once


class Quiet(Protocol):
    """A connection on which the server waits. quiet_since: the start of the wait."""

    quiet_since: float


T = TypeVar("T", bound=Quiet)


def pick_idlest(
    connections: Iterable[T], network: Callable[[T], str], before: float
) -> list[tuple[T, float]]:
    """Pick connections to close, each with its ``quiet_since``; the first to close is the last in the list.

    network: returns the network of a connection. before: connections that became quiet later are kept. After
    each pick, the next one is from the network with the most remaining connections.
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
