"""The share of a core that a server with many idle clients uses, including pings."""

from __future__ import annotations

import time

from bench.load import Load, settle
from bench.results import OURS
from bench.rounds import Round


def watch(round_: Round) -> None:
    """Measure once, in the last round: this takes longer than the ping interval."""
    if not round_.is_last:
        return
    plan, ours = round_.plan, round_.ours
    channels = ["base", *(f"topic-{number}-%d" for number in range(1, plan.idle_channels))]
    with Load(ours, channels) as load:
        load.connect(plan.largest)
        settle(ours)
        before = ours.cpu()
        time.sleep(plan.idle_seconds)
        round_.results.add("idle", OURS, (ours.cpu() - before) / plan.idle_seconds * 100)
