"""The longest turn of the reactor in floods, and while all clients connect and resume."""

from __future__ import annotations

import time

from bench.contestants import daemon
from bench.load import Load, settle
from bench.probe import Probe
from bench.results import OURS
from bench.rounds import Round, started
from bench.trials.storm import publish_missed
from tests.harness.floods import FLOODS, Flood

OPTIONS = ("--client-buffer=262144", "--history-bytes=16777216")  # small, so that the floods overflow both


def crowds(round_: Round) -> None:
    """Measure while all connect, and while all resume, each with missed events."""
    plan, ours = round_.plan, round_.ours
    with Load(ours) as load:
        with Probe(ours) as connecting:
            load.connect(plan.largest)
        load.drop()
        last_event_id = publish_missed(ours.port, plan.missed)
        with Probe(ours) as returning:
            load.come_back(plan.largest, plan.missed, last_event_id)
    settle(ours)
    round_.results.add("turn connect", OURS, connecting.longest * 1000)
    round_.results.add("turn return", OURS, returning.longest * 1000)


def floods(round_: Round) -> None:
    """Measure the worst of all floods; only once, in the last round, since there are many."""
    if not round_.is_last:
        return
    worst = {}
    for flood in FLOODS:
        ours = daemon(round_.folder(), *OPTIONS)
        with started(ours), Probe(ours) as probe:
            flooding = Flood(ours.port, flood)
            time.sleep(round_.plan.flood_seconds)
            flooding.stop()
        worst[flood.__name__] = probe.longest * 1000
    name = max(worst, key=worst.__getitem__)
    print(f" the worst is {name},", end="", flush=True)
    round_.results.add("turn floods", OURS, worst[name])
