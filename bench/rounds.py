"""One pass through the trials: the parameters of a trial, and the measurement of servers in turns.

Other load on the machine comes in bursts of seconds, and affects all servers alike if they are measured in
turns, in blocks that are shorter than the bursts. Meanwhile the other servers sleep.
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
from bench.results import EARLIER, OURS, Results

BLOCKS = 3  # in each server's share of a round


@dataclass(frozen=True, slots=True)
class Round:
    """Newly started contestants, the sizes, and the results."""

    plan: Plan
    results: Results
    contestants: list[Contestant]
    directory: Path
    is_last: bool

    @property
    def ours(self) -> Contestant:
        """The daemon with default options."""
        return next(one for one in self.contestants if one.name == OURS)

    @property
    def versions(self) -> list[Contestant]:
        """The daemon, and its earlier version if git has it."""
        return [one for one in self.contestants if one.name in (OURS, EARLIER)]

    def folder(self) -> Path:
        """A new directory for one more process."""
        return Path(mkdtemp(dir=self.directory))


@contextmanager
def started(*contestants: Contestant) -> Iterator[None]:
    """Run these contestants temporarily, in addition to those of the round."""
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
    """Connect `count` subscribers to each contestant; in the end disconnect all, and wait for the servers."""
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
    """Measure one block of each server in turns; each block adds a value under the server's name."""
    for _ in range(BLOCKS):
        for load in loads:
            add(load.contestant.name, measure(load))
