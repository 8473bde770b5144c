"""One pass through the trials: what a trial is given to work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.contestants import Contestant
from bench.plan import Plan
from bench.results import OURS, Results


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
