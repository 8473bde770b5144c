"""Patterns: how long a new one keeps others waiting, and how much many patterns slow down each event."""

from __future__ import annotations

import json
from functools import partial

from bench.contestants import Contestant, daemon
from bench.load import Load, message, settle
from bench.probe import Probe
from bench.results import OURS, REFERENCE
from bench.rounds import BLOCKS, Round, connected, in_turns, started
from bench.trials.channels import NAME, post
from bench.trials.publishing import JSON, own
from tests.harness.clients import Subscriber

PATTERN = "c*"


def new_pattern(round_: Round) -> None:
    """Measure the wait for a client with a new pattern, and for one that resumes, with very many channels."""
    channels = round_.plan.held_channels
    ours = daemon(round_.folder(), "--patterns=1")
    events = [{"channel": NAME % number, "message": message()} for number in range(1, channels + 1)]
    url = f"http://127.0.0.1:{ours.port}"
    with started(ours):
        with Subscriber(url, PATTERN) as one:
            first = one.headers["last-event-id"]
        post(ours, json.dumps(events, separators=(",", ":")).encode())
        settle(ours)
        for number in range(1, BLOCKS + 1):
            pattern = PATTERN + "*" * number  # a new pattern that matches the same channels
            for metric, last_event_id, count in (("new", None, 0), ("back", first, channels)):
                with Probe(ours) as probe, Subscriber(url, pattern, last_event_id) as one:
                    one.events(count)
                    settle(ours)
                round_.results.add(f"pattern {metric}", OURS, probe.longest * 1000)


def idle_patterns(round_: Round) -> None:
    """Measure events a second to clients' own channels, with and without idle streams of many patterns."""
    plan = round_.plan
    options = ["--patterns=1", f"--max-patterns-total={plan.pattern_streams * plan.patterns}"]
    plain = daemon(round_.folder(), *options, name=REFERENCE)
    crowded = daemon(round_.folder(), *options)
    patterns = [f"topic-{number}-%d*" for number in range(plan.patterns)]
    with started(plain, crowded), connected([crowded], patterns, plan.pattern_streams):
        _events_a_second(round_, [plain, crowded])


def _events_a_second(round_: Round, contestants: list[Contestant]) -> None:
    plan = round_.plan
    events = [{"channel": own(number), "message": message()} for number in range(1, plan.batch + 1)]
    with connected(contestants, ["user-%d"], plan.batch) as loads:
        for load in loads:
            load.publish_with([load.contestant.post("/publish", json.dumps(events), JSON)])
        in_turns(loads, partial(_batches, plan.batches, plan.batch), partial(round_.results.add, "patterns"))


def _batches(count: int, size: int, load: Load) -> float:
    return size / load.time(max(1, count // BLOCKS), each=size)["last_seconds"]
