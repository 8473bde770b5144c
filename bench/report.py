"""What was measured, as BENCHMARK.md and a plot beside it."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.plot import plot

# metric -> contestant -> one value for each round
Results = dict[str, dict[str, list[float]]]

OURS, LIMIT = "cyclone-sse", "limit"
FAN_OUT = {3600: 1.15, 9000: 1.15}  # targets for these crowds, times the limit
NAMES = {LIMIT: "limit (C)", OURS: OURS, "nchan": "nginx + nchan"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `target` is a ratio to the limit (`relative`) or an absolute figure, None where there is none; `at_least`
    says which side of it is good.
    """

    metric: str
    title: str
    form: str
    target: float | None
    relative: bool = True
    at_least: bool = False

    def goal(self) -> str:
        """The target, to be read."""
        if self.target is None:
            return ""
        sign = "≥" if self.at_least else "≤"
        figure = f"{self.target:g} x limit" if self.relative else self.form.format(self.target)
        return f"{sign} {figure}"

    def met(self, value: float) -> str:
        """Whether a ratio or figure is on the good side, to be read."""
        if self.target is None:
            return ""
        good = value >= self.target if self.at_least else value <= self.target
        return "yes" if good else "**no**"


def rows(crowds: Sequence[int], results: Results) -> list[Row]:
    """The table's lines, as far as they were measured."""
    largest = f"{max(crowds):,}"
    crowd_rows = [
        Row(f"last {crowd}", f"time to the last of {crowd:,}", "{:.1f} ms", FAN_OUT.get(crowd))
        for crowd in sorted(crowds)
    ]
    others = [
        Row("deliveries", "deliveries/s, 4 publishes in flight", "{:,.0f}", 1.0, at_least=True),
        Row("connect", f"time to connect {largest}", "{:.2f} s", 2.5),
        Row("memory", "memory for each idle subscriber", "{:.1f} KiB", 6, relative=False),
        Row("publishes", "publishes/s, 10 subscribers", "{:,.0f}", 8100, relative=False, at_least=True),
        Row("idle", f"processor with {largest} idle, pings included", "{:.2f} %", 2, relative=False),
    ]
    return [row for row in crowd_rows + others if row.metric in results]


def table(crowds: Sequence[int], results: Results) -> str:
    """The medians of all contestants, their ratios to the limit, and whether ours is within its target."""
    names = [name for name in NAMES if name in results[f"last {max(crowds)}"]]
    head = [
        "",
        *(NAMES[name] for name in names),
        *(f"{NAMES[name]} / limit" for name in names[1:]),
        "target",
        "met",
    ]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows(crowds, results):
        values = {name: median(measured) for name, measured in results[row.metric].items()}
        ratios = {
            name: value / values[LIMIT]
            for name, value in values.items()
            if LIMIT in values and name != LIMIT and row.metric != "memory"
        }
        figure = ratios[OURS] if row.relative else values[OURS]
        lines.append(
            [
                row.title,
                *(row.form.format(values[name]) if name in values else "" for name in names),
                *(f"**{ratios[name]:.2f}**" if name in ratios else "" for name in names[1:]),
                row.goal(),
                row.met(figure),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """What it was measured on."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    model = models[0].partition(": ")[2] if models else platform.machine()
    kernel = platform.release().partition("-")[0]
    return (
        f"{os.cpu_count()} cores of {model}, Linux {kernel}, "
        f"Python {platform.python_version()}, Twisted {version('twisted')}"
    )


TEXT = """\
# Benchmark

Measured by `make bench` on {day}: {machine}. {warning}

{table}

![Time to the last subscriber]({svg})

## How it was measured

- Medians of {rounds} rounds. A round starts every server afresh and puts each load on one after the other.
- *limit* is `bench/limit.c`: a bare epoll server that builds an event once and calls `send()` in a loop.
  *cyclone-sse* is `twistd cyclone-sse` with the HTTP broker and default options; *nginx + nchan* has one
  worker and nchan's defaults.
- The load is `bench/load.c`, {size} bytes a message. Server and load have a core each, where there are two.
- *Time to the last*: from handing a message to the kernel until the last subscriber has read it.
- *Deliveries*: {flow} subscribers, four messages under way at any time. A server that puts the events of one
  turn into one write sends less often than the limit, which is how the ratio can pass 1.
- *Memory*: growth of the resident set of a fresh process with {largest} subscribers, for each of them; what
  the kernel keeps for a socket is not in it.
- *Publishes*: the target is three times what version 0.7.7 did, 2,700/s, on another machine.
- *Processor*: user and system time over {idle} s in which the server sent nothing but pings.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the reader must know of the run: its rounds, the subscribers of the flow, the times and sizes."""

    rounds: int
    flow: int
    idle_seconds: float
    size: int
    quick: bool


def write(path: Path, results: Results, crowds: Sequence[int], setting: Setting) -> None:
    """Write the report to `path`, and the plot beside it."""
    picture = path.with_name("benchmark.svg")
    lines: dict[str, Mapping[int, float]] = {
        name: {crowd: median(results[f"last {crowd}"][name]) for crowd in crowds}
        for name in results[f"last {max(crowds)}"]
    }
    picture.write_text(plot("Time to the last subscriber", "subscribers", "ms", lines))
    path.write_text(
        TEXT.format(
            day=datetime.date.today().isoformat(),
            machine=machine(),
            warning="**A quick run with small numbers: no figure to rely on.**" if setting.quick else "",
            table=table(crowds, results),
            svg=picture.name,
            rounds=setting.rounds,
            size=setting.size,
            flow=f"{setting.flow:,}",
            largest=f"{max(crowds):,}",
            idle=f"{setting.idle_seconds:g}",
        )
    )
