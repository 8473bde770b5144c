"""One pass through the trials: what a trial gets to work with, and how it measures servers in turns.

What else the machine does comes in bursts of seconds. Blocks that are shorter than these, in turns, hit all
servers alike; a server whose turn it is not sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.contestants import Contestant
from bench.load import Load, settle
from bench.plan import Plan
from bench.results import OURS, Results

BLOCKS = 3  # that each server's share of a round is cut into


@dataclass(frozen=True, slots=True)
class Round:
    """Freshly started contestants, the sizes, and where results go."""

    plan: Plan
    results: Results
    contestants: list[Contestant]
    directory: Path
    is_last: bool

    @property
    def ours(self) -> Contestant:
        """The daemon with default options."""
        return next(one for one in self.contestants if one.name == OURS)

    def folder(self) -> Path:
        """A new directory for one more process."""
        return Path(mkdtemp(dir=self.directory))


@contextmanager
def started(*contestants: Contestant) -> Iterator[None]:
    """Run these for a while, beside those of the round."""
    running = []
    try:
        for contestant in contestants:
            contestant.start()
            running.append(contestant)
        yield
    finally:
        for contestant in running:
            contestant.process.stop()


@contextmanager
def connected(contestants: Sequence[Contestant], channels: Sequence[str], count: int) -> Iterator[list[Load]]:
    """Connect so many subscribers to each of them; in the end all leave, and the servers have seen it."""
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
    """Measure one block of each server after the other; each is a value under the server's name."""
    for _ in range(BLOCKS):
        for load in loads:
            add(load.contestant.name, measure(load))
