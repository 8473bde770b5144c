"""What is measured, a file for each kind; `TRIALS` is the order in which a round does it.

A trial takes a `Round`, puts loads on its contestants in turn and adds what it measures to the results. It
raises LeftOut when the machine or the server lacks something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.contestants import Contestant
from bench.plan import Plan
from bench.results import OURS, Results


@dataclass(frozen=True, slots=True)
class Round:
    """One pass through the trials: freshly started contestants, the sizes, and where results go."""

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
    """Run these for a while besides those of the round."""
    running = []
    try:
        for contestant in contestants:
            contestant.start()
            running.append(contestant)
        yield
    finally:
        for contestant in running:
            contestant.process.stop()


Trial = Callable[[Round], None]


def trials() -> Mapping[str, Trial]:
    """All trials by name. The fan-out is first: it measures the memory of fresh processes."""
    from bench.trials import fan_out, idle, publishing, redis_stream, storm, tls

    return {
        "fanout": fan_out.time_to_the_last,
        "deliveries": fan_out.deliveries,
        "storm": storm.come_back,
        "tls": tls.time_to_the_last,
        "publishes": publishing.publishes,
        "own": publishing.to_ones_own,
        "batch": publishing.batch,
        "channels": publishing.many_channels,
        "history": publishing.with_history_file,
        "stream": redis_stream.burst,
        "idle": idle.watch,
    }
