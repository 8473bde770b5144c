"""As many clients as fit on one machine: connect, publish to all, and replace a worker. `make crowd`.

    python -m bench.crowd [--count 60000] [--workers 4] [--broker redis-stream] [-- OPTIONS OF THE DAEMON]

With only one worker, a quarter of the clients is cut off instead. Exits with 1 if a client did not connect,
or if an event did not reach all clients, was lost, or was delivered twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from bench.crowd.clients import Crowd
from bench.crowd.site import Site, running
from bench.machine import allow_files, description
from bench.programs import compile_programs
from bench.report import replace_last_section
from bench.results import LeftOut

EVENTS = 5  # timed one by one
PATIENCE = 60.0  # seconds for an event to reach all clients, and for all to reconnect
PACE = 1.0  # seconds between two events while a worker is replaced
HEADING = "## A crowd on one machine"


def main() -> int:
    """Run the benchmark, and print and write the results."""
    parser = argparse.ArgumentParser(prog="crowd", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=60_000, help="clients")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--broker", default="redis-stream")
    parser.add_argument("--output", type=Path, help="the report to put the result into")
    parser.add_argument("options", nargs="*", help="of the daemon, after --")
    settings = parser.parse_args()
    if not allow_files(settings.count // settings.workers):
        print("crowd: so many clients need more open files or more workers: see ulimit -Hn")
        return 1
    compile_programs()
    report = Report(f"load average at the start: {os.getloadavg()[0]:.2f}")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="cyclone-sse-crowd-") as directory,
            running(Path(directory), settings.broker, settings.workers, settings.options) as site,
            Crowd(site.daemon.port, settings.count) as crowd,
        ):
            sound = connect(site, crowd, report) and reach(site, crowd, report)
            sound = come_back(site, crowd, settings.workers, report) and sound
    except LeftOut as why:
        print(f"crowd: {why}")
        return 1
    if settings.output:
        title = f"{settings.count:,} clients with `fields=channel`, {settings.workers} workers"
        replace_last_section(
            settings.output,
            HEADING,
            f"`make crowd`, {title}, `--broker={settings.broker}`: {description()}.\n\n{report.text}\n",
        )
    return 0 if sound else 1


class Report:
    """Lines, printed as they come."""

    def __init__(self, first: str) -> None:
        self._lines: list[str] = []
        self.say(first)

    def say(self, line: str) -> None:
        """Print and keep a line."""
        print(line, flush=True)
        self._lines.append(f"- {line}")

    @property
    def text(self) -> str:
        """All lines, as a Markdown list."""
        return "\n".join(self._lines)


def connect(site: Site, crowd: Crowd, report: Report) -> bool:
    """Connect all clients, and measure the memory for each; returns whether all are connected."""
    empty = site.memory()
    begin = time.monotonic()
    connected = crowd.connect()
    seconds = time.monotonic() - begin
    report.say(
        f"{connected:,} of {crowd.count:,} connected in {seconds:.1f} s: {connected / seconds:,.0f} a second"
    )
    full = site.memory()
    each = (full - empty) / max(connected, 1) / 1024
    report.say(f"memory: {full / 2**20:.0f} MiB, {each:.1f} KiB for each client")
    return connected == crowd.count


def reach(site: Site, crowd: Crowd, report: Report) -> bool:
    """Publish some events one by one; returns whether each reached all clients."""
    times = []
    for number in range(1, EVENTS + 1):
        begin = time.monotonic()
        site.publish(number)
        reached, last = crowd.hear(number, PATIENCE)
        times.append(last - begin)
        if reached < crowd.count:
            report.say(f"event {number} reached {reached:,} of {crowd.count:,}")
            return False
    report.say(f"time to the last: {median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
    return True


def come_back(site: Site, crowd: Crowd, workers: int, report: Report) -> bool:
    """Replace a worker while events are published; returns whether all clients got each event once."""
    publisher = Publisher(site, EVENTS + 1)
    publisher.start()
    begin = time.monotonic()
    if workers > 1:
        site.replace_worker()
        what = "one worker replaced"
    else:
        crowd.cut(0.25)
        what = "a quarter cut off"
    replaced = time.monotonic() - begin
    connected = crowd.settle(PATIENCE)
    seconds = time.monotonic() - begin
    last = publisher.finish()
    reached, _ = crowd.hear(last, PATIENCE)
    found = crowd.state()
    report.say(
        f"{what} in {replaced:.1f} s: {found['cut_off']:,} were cut off and {connected:,} of {crowd.count:,} "
        f"were connected after {seconds:.1f} s; {last - EVENTS} events were published meanwhile, the last "
        f"one reached {reached:,}: lost {found['lost']}, doubled {found['doubled']}, gaps {found['gaps']}"
    )
    faults = found["lost"] or found["doubled"] or found["gaps"]
    return not faults and reached == connected == crowd.count


class Publisher(threading.Thread):
    """Publishes numbers at a steady pace, until `finish` is called."""

    def __init__(self, site: Site, first: int) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._next = first
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            self._site.publish(self._next)
            self._next += 1
            self._over.wait(PACE)

    def finish(self) -> int:
        """Stop publishing; returns the last number that was published."""
        self._over.set()
        self.join()
        return self._next - 1


if __name__ == "__main__":
    sys.exit(main())
