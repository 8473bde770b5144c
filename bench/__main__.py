"""Measure all contestants in turns, and write BENCHMARK.md with its plot. `make bench` runs this.

A round starts every server afresh and puts each load on one after the other, so that what else the
machine does hits them alike. What is reported is the median of the rounds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.contestants import Contestant, compile_programs, start_all
from bench.load import SIZE, Load, run, settle
from bench.report import Results, Setting, write

SPARE_FILES = 200  # descriptors that a server needs besides its subscribers'


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: the loads, how often, and how long a server is watched that has nothing to do."""

    rounds: int = 3
    crowds: tuple[Load, ...] = (Load(9000, 9), Load(3600, 15), Load(1000, 25), Load(500, 25))
    flow: Load = field(default_factory=lambda: Load(1000, 300, window=4))
    publishing: Load = field(default_factory=lambda: Load(10, 6000, window=4))
    idle_seconds: float = 35.0  # longer than the ping interval


QUICK = Plan(
    rounds=1,
    crowds=(Load(300, 5), Load(100, 5)),
    flow=Load(100, 50, window=4),
    publishing=Load(10, 200, window=4),
    idle_seconds=1.0,
)


def measure_crowd(results: Results, contestant: Contestant, load: Load, largest: bool) -> None:
    """The time to the last subscriber; with the largest crowd, which is first, also what each costs."""
    fresh = contestant.memory()
    idle: list[int] = []

    def look() -> None:
        settle(contestant)
        idle.append(contestant.memory())

    measured = run(contestant, load, look)
    results[f"last {load.subscribers}"][contestant.name].append(measured["last_seconds"] * 1000)
    if largest:
        results["connect"][contestant.name].append(measured["connect_seconds"])
        results["memory"][contestant.name].append((idle[0] - fresh) / load.subscribers / 1024)


def measure_round(results: Results, plan: Plan, contestants: list[Contestant]) -> None:
    """Put every load on every server once."""
    for load in plan.crowds:
        for contestant in contestants:
            measure_crowd(results, contestant, load, load is plan.crowds[0])
            settle(contestant)
    for name, load in (("deliveries", plan.flow), ("publishes", plan.publishing)):
        for contestant in contestants:
            results[name][contestant.name].append(run(contestant, load)[f"{name}_per_second"])
            settle(contestant)


def measure_idling(results: Results, plan: Plan, contestant: Contestant) -> None:
    """The share of a core that a full and silent server takes, pings included."""

    def watch() -> None:
        settle(contestant)
        before = contestant.cpu()
        time.sleep(plan.idle_seconds)
        results["idle"][contestant.name].append((contestant.cpu() - before) / plan.idle_seconds * 100)

    run(contestant, Load(plan.crowds[0].subscribers, 1), watch)


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--rounds", type=int, help="instead of 3")
    parser.add_argument("--output", type=Path, default=Path("BENCHMARK.md"), help="where to write the report")
    settings = parser.parse_args()
    plan = QUICK if settings.quick else Plan()
    plan = replace(plan, rounds=settings.rounds or plan.rounds)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < plan.crowds[0].subscribers + SPARE_FILES:
        print(f"bench: {plan.crowds[0].subscribers} subscribers need more open files: see ulimit -Hn")
        return 1
    compile_programs()
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="cyclone-sse-bench-") as directory:
        for number in range(plan.rounds):
            print(f"round {number + 1} of {plan.rounds} ...", flush=True)
            contestants = start_all(Path(directory) / str(number))
            try:
                measure_round(results, plan, contestants)
                if number == plan.rounds - 1:
                    print("idling ...", flush=True)
                    measure_idling(results, plan, contestants[1])
            finally:
                for contestant in contestants:
                    contestant.process.stop()
    crowds = [load.subscribers for load in plan.crowds]
    setting = Setting(plan.rounds, plan.flow.subscribers, plan.idle_seconds, SIZE, settings.quick)
    write(settings.output, results, crowds, setting)
    print(f"wrote {settings.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
