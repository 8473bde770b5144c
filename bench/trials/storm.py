"""All clients resume at once, each with missed events, compared with new connections to the same server."""

from __future__ import annotations

from bench.load import Load, message
from bench.results import OURS, REFERENCE
from bench.rounds import Round
from bench.trials.fan_out import CHANNELS
from tests.harness.clients import Subscriber, publish

PAIRS = 2  # of connecting and resuming, in each round


def come_back(round_: Round) -> None:
    """Measure the time until all have resumed. The missed events are those of the common channel `base`."""
    for kind in ("one", "own"):
        _measure(round_, kind)


def publish_missed(port: int, count: int) -> str:
    """Publish `count` events to `base`; returns the id of the event before them."""
    url = f"http://127.0.0.1:{port}"
    with Subscriber(url) as one:
        publish(url, "base", "the last event that all have")
        last_event_id = one.event().id
    for _ in range(count):
        publish(url, "base", message())
    return last_event_id


def _measure(round_: Round, kind: str) -> None:
    plan, ours = round_.plan, round_.ours
    with Load(ours, CHANNELS[kind]) as load:
        # Without this, the first of the two would include the growth of the server's memory.
        load.connect(plan.largest)
        load.drop()
        last_event_id = publish_missed(ours.port, plan.missed)
        for _ in range(PAIRS):
            round_.results.add(f"storm {kind}", REFERENCE, load.connect(plan.largest))
            load.drop()
            returned = load.come_back(plan.largest, plan.missed, last_event_id)
            round_.results.add(f"storm {kind}", OURS, returned)
            load.drop()
