"""Measure all contestants in turns, and write BENCHMARK.md with its plot. `make bench` runs this.

A round restarts every server, and measures all of them in turns, so that other load on the machine affects
all alike. The report has the medians.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench.contestants import checkout_of, contestants
from bench.machine import allow_files
from bench.plan import QUICK, Plan
from bench.programs import compile_programs
from bench.report import Setting, table, verdict, write
from bench.results import LeftOut, Results
from bench.rounds import Round, started
from bench.trials import TRIALS, Trial


def measure(
    results: Results, plan: Plan, chosen: Mapping[str, Trial], directory: Path, checkout: Path | None
) -> bool:
    """Do all rounds; returns whether no trial failed. A failure is printed, and the next trial runs."""
    failed: set[str] = set()
    for number in range(1, plan.rounds + 1):
        folder = directory / str(number)
        folder.mkdir()
        known = contestants(folder, checkout)
        with started(*known):
            round_ = Round(plan, results, known, folder, number == plan.rounds)
            for name, trial in chosen.items():
                if name in results.left_out:
                    continue
                print(f"round {number} of {plan.rounds}: {name} ...", end="", flush=True)
                begin = time.monotonic()
                try:
                    trial(round_)
                except LeftOut as reason:
                    print(f" left out: {reason}", flush=True)
                    results.left_out[name] = str(reason)
                except (RuntimeError, AssertionError) as error:
                    print(f" failed: {error}", flush=True)
                    results.left_out[name] = f"it failed: {str(error).partition(chr(10))[0]}"
                    failed.add(name)
                else:
                    print(f" {time.monotonic() - begin:.0f} s", flush=True)
    return not failed


def main() -> int:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--rounds", type=int, help=f"instead of {Plan().rounds}")
    parser.add_argument("--only", action="append", choices=TRIALS, help="print these trials, write nothing")
    parser.add_argument("--output", type=Path, default=Path("BENCHMARK.md"), help="where to write the report")
    parser.add_argument("--beside", default="8acbcc9", help="an earlier commit to compare with [%(default)s]")
    settings = parser.parse_args()
    plan = QUICK if settings.quick else Plan()
    plan = replace(plan, rounds=settings.rounds or plan.rounds)
    if not allow_files(plan.largest):
        print(f"bench: {plan.largest} subscribers need more open files: see ulimit -Hn")
        return 1
    setting = Setting(plan, settings.beside)
    compile_programs()
    results = Results()
    chosen = {name: trial for name, trial in TRIALS.items() if not settings.only or name in settings.only}
    with (
        tempfile.TemporaryDirectory(prefix="cyclone-sse-bench-") as directory,
        checkout_of(settings.beside) as checkout,
    ):
        sound = measure(results, plan, chosen, Path(directory), checkout)
    if settings.only:
        print(f"load average at the start: {setting.load_average}")
        print(table(results, plan), verdict(results, plan), sep="\n")
    else:
        write(settings.output, results, setting)
        print(f"wrote {settings.output}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
