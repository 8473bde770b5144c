"""Several servers under the same load, each with its crowd connected, measured bit by bit in turns.

What else the machine does comes in bursts of seconds. Blocks that are shorter than these, in turns, hit all
servers alike; a server whose turn it is not sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.contestants import Contestant
from bench.load import Load, settle

BLOCKS = 3  # that each server's share of a round is cut into


@contextmanager
def connected(contestants: Sequence[Contestant], channels: Sequence[str], count: int) -> Iterator[list[Load]]:
    """A crowd for each of them; in the end all leave, and the servers have seen it."""
    with ExitStack() as stack:
        loads = []
        for contestant in contestants:
            load = stack.enter_context(Load(contestant, channels))
            load.connect(count)
            settle(contestant)
            loads.append(load)
        yield loads
    for contestant in contestants:
        settle(contestant)


def in_turns(
    loads: Sequence[Load], measure: Callable[[Load], float], add: Callable[[str, float], None]
) -> None:
    """Measure one block of each server after the other, and add each as a value under the server's name."""
    for _ in range(BLOCKS):
        for load in loads:
            add(load.contestant.name, measure(load))
