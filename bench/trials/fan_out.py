"""One message to everybody: the time to the last, with one, two and three channels for each subscriber."""

from __future__ import annotations

from bench.contestants import Contestant
from bench.load import Load, settle
from bench.rounds import Round

OWN = ("base", "user-%d")
# What each subscriber hears. Messages go to `base`.
CHANNELS = {"one": ("base",), "own": OWN, "three": (*OWN, "page-%d")}


def time_to_the_last(round_: Round) -> None:
    """Every crowd with every number of channels; the largest also says what connecting costs."""
    plan = round_.plan
    for kind in CHANNELS:
        for subscribers, messages in plan.crowds if kind == "one" else plan.crowds_of_many_channels:
            for contestant in round_.contestants:
                _measure(round_, contestant, kind, subscribers, messages)
                settle(contestant)


def _measure(round_: Round, contestant: Contestant, kind: str, subscribers: int, messages: int) -> None:
    fresh = contestant.memory()
    with Load(contestant, CHANNELS[kind]) as load:
        seconds = load.connect(subscribers)
        settle(contestant)
        grown = contestant.memory() - fresh
        load.publish_to_all()
        last = load.time(messages)["last_seconds"]
    add, name = round_.results.add, contestant.name
    add(f"last {kind} {subscribers}", name, last * 1000)
    if subscribers == round_.plan.largest:
        add(f"connect {kind}", name, seconds)
        if kind == "one":  # the first load that this process has met
            add("memory", name, grown / subscribers / 1024)


def deliveries(round_: Round) -> None:
    """Four messages under way at any time."""
    plan = round_.plan
    for contestant in round_.contestants:
        with Load(contestant) as load:
            load.connect(plan.flow_subscribers)
            load.publish_to_all()
            flow = load.flow(plan.flow_messages)
        round_.results.add("deliveries", contestant.name, flow["deliveries_per_second"])
        settle(contestant)
