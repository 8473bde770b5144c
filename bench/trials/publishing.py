"""Publishes a second: single ones, in batches, to one client among many, and with a history file."""

from __future__ import annotations

import json
import random
from functools import partial

from bench.contestants import daemon
from bench.load import message
from bench.results import REFERENCE
from bench.rounds import BLOCKS, Round, connected, in_turns, started

PUBLISHERS = 16  # at once, with and without a file: only one would measure the latency of a commit
JSON = "application/json"


def own(number: int) -> str:
    """The channel of the subscriber with that number, as load.c writes it."""
    return f"user-{number:06d}"


def publishes(round_: Round) -> None:
    """Measure one publisher with few subscribers, four messages under way."""
    plan = round_.plan
    with connected(round_.contestants, ["base"], plan.publish_subscribers) as loads:
        for load in loads:
            load.publish_to_all()
        in_turns(
            loads,
            lambda load: load.flow(plan.publishes // BLOCKS)["publishes_per_second"],
            partial(round_.results.add, "publishes"),
        )


def to_ones_own(round_: Round) -> None:
    """Measure one publisher with very many subscribers, each message to the own channel of another one."""
    plan = round_.plan
    numbers = random.Random(plan.largest).sample(range(1, plan.largest + 1), plan.largest)
    with connected(round_.contestants, ["user-%d"], plan.largest) as loads:
        for load in loads:
            load.publish_with([load.contestant.publish(own(number), message()) for number in numbers])
        in_turns(
            loads,
            lambda load: load.flow(plan.publishes // BLOCKS, each=1)["publishes_per_second"],
            partial(round_.results.add, "publishes own"),
        )


def batch(round_: Round) -> None:
    """Measure events a second, with many in one POST, each to a channel and a subscriber of its own."""
    plan = round_.plan
    events = [{"channel": own(number), "message": message()} for number in range(1, plan.batch + 1)]
    with connected(round_.versions, ["user-%d"], plan.batch) as loads:
        for load in loads:
            load.publish_with([load.contestant.post("/publish", json.dumps(events), JSON)])
        in_turns(
            loads,
            lambda load: plan.batch / load.time(plan.batches, each=plan.batch)["last_seconds"],
            partial(round_.results.add, "batch"),
        )


def with_history_file(round_: Round) -> None:
    """Measure publishes a second with a history file, and without one."""
    plan = round_.plan
    file = round_.folder() / "history.sqlite"
    plain = daemon(round_.folder(), name=REFERENCE)
    kept = daemon(round_.folder(), f"--history-file={file}")
    with started(plain, kept), connected([plain, kept], ["base"], plan.publish_subscribers) as loads:
        for load in loads:
            load.publish_with([load.contestant.publish("base", message())], connections=PUBLISHERS)
        in_turns(
            loads,
            lambda load: load.flow(plan.publishes // BLOCKS, window=2 * PUBLISHERS)["publishes_per_second"],
            partial(round_.results.add, "history"),
        )
