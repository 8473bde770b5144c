"""One message to all subscribers: the time to the last, with one, two and three channels for each of them."""

from __future__ import annotations

from functools import partial

from bench.rounds import BLOCKS, Round, connected, in_turns

OWN = ("base", "user-%d")
# The channels of each subscriber. Messages are published to `base`.
CHANNELS = {"one": ("base",), "own": OWN, "three": (*OWN, "page-%d")}


def time_to_the_last(round_: Round) -> None:
    """Measure every crowd with every number of channels; with the largest, also the cost of connecting."""
    plan = round_.plan
    for kind in CHANNELS:
        for subscribers, messages in plan.crowds if kind == "one" else plan.crowds_of_many_channels:
            _measure(round_, kind, subscribers, messages)


def _measure(round_: Round, kind: str, subscribers: int, messages: int) -> None:
    add = round_.results.add
    with connected(round_.contestants, CHANNELS[kind], subscribers) as loads:
        if subscribers == round_.plan.largest:
            for load in loads:
                add(f"connect {kind}", load.contestant.name, load.connect_seconds)
                if kind == "one":  # the first load of this process
                    add("memory", load.contestant.name, load.memory_for_each())
        for load in loads:
            load.publish_to_all()
        in_turns(
            loads,
            lambda load: load.time(messages // BLOCKS)["last_seconds"] * 1000,
            partial(add, f"last {kind} {subscribers}"),
        )


def deliveries(round_: Round) -> None:
    """Measure deliveries a second, with four messages under way at any time."""
    plan = round_.plan
    with connected(round_.contestants, CHANNELS["one"], plan.flow_subscribers) as loads:
        for load in loads:
            load.publish_to_all()
        in_turns(
            loads,
            lambda load: load.flow(plan.flow_messages // BLOCKS)["deliveries_per_second"],
            partial(round_.results.add, "deliveries"),
        )
