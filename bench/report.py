"""The report: BENCHMARK.md, and a plot in the same directory.

Two programs write BENCHMARK.md: each replaces its own sections and keeps the other's.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import SIZE
from bench.machine import description
from bench.plan import QUICK, Plan
from bench.plot import plot
from bench.results import EARLIER, LIMIT, NCHAN, OURS, Results
from bench.rounds import BLOCKS
from bench.rows import Row, rows

NAMES = {LIMIT: "limit (C)", OURS: OURS, EARLIER: EARLIER, NCHAN: "nginx + nchan"}

METHOD = "## How it was measured"

TEXT = """\
# Benchmark

{summary}

Measured by `make bench` on {day}: {machine}; load average at the start: {load}. {warning}
{verdict}

{table}

{omitted}![Time to the last subscriber](benchmark.svg)

## How it was measured

- **Rounds.** There are {rounds}, and each starts every server again. For a row, all servers have their
  clients connected, and are measured in turns, in {blocks} short blocks each. A figure is the median of all
  blocks; a ratio is the median of the ratios of neighbouring blocks, so that other work of the machine
  affects both.
- **Limit** is `bench/programs/limit.c`: a bare epoll server that builds an event once and calls `send()` in a
  loop. It has no channels, and does the same work in the rows with several channels. If a target names
  another reference, the column has that: a plain connect to the same server, the same loop with OpenSSL,
  `redis-benchmark` with its defaults (50 connections, no pipelining), or the server without `--history-file`.
- **cyclone-sse** is `twistd cyclone-sse` with the HTTP broker and default options, unless a row names others;
  **earlier** is the commit {earlier}; **nginx + nchan** has one worker and nchan's defaults.
- **The load** is `bench/programs/load.c`, with messages of {size} bytes, on one thread. If the machine has
  two cores, server and load have one each.
- **Time to the last**: from passing a message to the kernel until the last subscriber has read it.
- **Deliveries**: a server that writes the events of one turn together sends less often than the limit, so
  that the ratio can exceed 1.
- **Connect, reconnect**: at most 200 connections are under way; a client that reconnects counts when it has
  received everything that it missed.
- **Memory**: growth of the resident set of a fresh process with its first clients, divided by their number,
  without the kernel's buffers. For the publish to many channels, the peak.
- **`--history-file`**: sixteen publishers at once, since a single one would measure the latency of a commit.
- **Longest turn**: the longest time to an answer for a client that sends a request every 2 ms. Other work of
  the machine makes it longer. `make soak` reports the server's own figure.
- **Long polls**: one message answers all waiting polls; the limit has streams. Then all clients poll again,
  each on its connection with the id of the event.
- **Presence**: without the processor time that the same joins take in a channel without presence.
- **Processor**: user and system time over {idle:g} s in which the server sent only pings.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """The circumstances of the run; made before the first load. earlier: a commit to compare with."""

    plan: Plan
    earlier: str
    load_average: str = field(default_factory=lambda: f"{os.getloadavg()[0]:.2f}")


def write(path: Path, results: Results, setting: Setting) -> None:
    """Write the report to `path`, and the plot to the same directory if there is something to draw."""
    plan = setting.plan
    others = sections_after(path, METHOD)
    picture = plot_of(results, plan)
    if picture:
        path.with_name("benchmark.svg").write_text(picture)
    quick = plan.largest == QUICK.largest
    path.write_text(
        TEXT.format(
            day=datetime.date.today().isoformat(),
            machine=description(),
            load=setting.load_average,
            warning="**A quick run with small numbers: no figure to rely on.**" if quick else "",
            verdict=verdict(results, plan),
            summary=summary(results, plan),
            table=table(results, plan),
            omitted=omitted(results),
            rounds=plan.rounds,
            blocks=BLOCKS,
            size=SIZE,
            idle=plan.idle_seconds,
            earlier=setting.earlier,
        )
        + others
    )


def verdict(results: Results, plan: Plan) -> str:
    """The number of targets that are met, and the names of the others."""
    met = {row.title: row.met(results) for row in rows(plan)}
    missed = [title for title, good in met.items() if good is False]
    reached = sum(good is True for good in met.values())
    said = f"{reached} of {reached + len(missed)} measured targets are met"
    return said + (f"; missed: {'; '.join(missed)}." if missed else ".")


def summary(results: Results, plan: Plan) -> str:
    """The figures that users ask for first, if they were measured."""
    crowd = f"{plan.largest:,}"
    questions = (
        ("memory", f"Memory for each idle client, of {crowd}", "{:.1f} KiB"),
        (f"last one {plan.largest}", f"Time until the last of {crowd} clients has an event", "{:.0f} ms"),
        ("connect one", f"Time until {crowd} clients are connected", "{:.1f} s"),
        ("deliveries", "Events that clients receive a second", "{:,.0f}"),
        ("publishes", "Publishes a second, by one publisher", "{:,.0f}"),
        ("idle", f"Processor time for {crowd} idle clients", "{:.1f} %"),
    )
    lines = ["| one process, one core | cyclone-sse | nginx + nchan |", "| --- | ---: | ---: |"]
    for metric, question, form in questions:
        values = [results.value(metric, name) for name in (OURS, NCHAN)]
        if values[0] is not None:
            cells = ["not measured" if value is None else form.format(value) for value in values]
            lines.append(f"| {question} | {' | '.join(cells)} |")
    return "\n".join(lines)


def omitted(results: Results) -> str:
    """The metrics that could not be measured, with the reasons."""
    lines = [f"- left out: *{name}*: {why}\n" for name, why in results.left_out.items()]
    return "".join(lines) + ("\n" if lines else "")


def table(results: Results, plan: Plan) -> str:
    """The table of medians, of ratios to the reference, and of whether ours meets its targets."""
    seen = {name for metric in results.metrics for name in results.contestants(metric)}
    names = [name for name in NAMES if name in seen]
    head = [
        "",
        *(NAMES[name] for name in names),
        *(f"{NAMES[name]}, ratio" for name in names if name != LIMIT),
    ]
    lines = [[*head, "target", "met"]]
    lines.append(["---"] + ["---:"] * (len(lines[0]) - 1))
    lines += [_line(row, names, results) for row in rows(plan) if row.metric in results]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(row: Row, names: list[str], results: Results) -> list[str]:
    values = {name: results.value(row.metric, name) for name in names}
    ratios = {name: results.ratio(row.metric, name, row.reference) for name in names if name != LIMIT}
    return [
        row.title,
        *("" if value is None else row.form.format(value) for value in values.values()),
        *("" if ratio is None or row.absolute else f"**{ratio:.2f}**" for ratio in ratios.values()),
        row.goal(),
        {True: "yes", False: "**no**", None: ""}[row.met(results)],
    ]


def plot_of(results: Results, plan: Plan) -> str | None:
    """The plot of the time to the last subscriber over their number; None if that was not measured."""
    crowds = [subscribers for subscribers, _ in plan.crowds]
    lines: dict[str, Mapping[int, float]] = {}
    for name in NAMES:
        points = {crowd: results.value(f"last one {crowd}", name) for crowd in crowds}
        if all(points.values()):
            lines[name] = {crowd: value for crowd, value in points.items() if value is not None}
    return plot("Time to the last subscriber", "subscribers", "ms", lines) if lines else None


def sections_after(path: Path, heading: str) -> str:
    """Return all sections after the one with that heading, with the line break before them."""
    if not path.exists():
        return ""
    _, _, rest = path.read_text().partition(f"\n{heading}\n")
    _, mark, others = rest.partition("\n## ")
    return mark + others


def replace_last_section(path: Path, heading: str, text: str) -> None:
    """Write this section to the end of the file, and remove an earlier one with the same heading."""
    kept = path.read_text().partition(f"\n{heading}\n")[0] if path.exists() else "# Benchmark"
    path.write_text(f"{kept.rstrip()}\n\n{heading}\n\n{text}")
