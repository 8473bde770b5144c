"""Long polls: all wait, and one message answers them; then all poll again."""

from __future__ import annotations

from dataclasses import replace

from bench.load import settle
from bench.results import LIMIT, OURS
from bench.rounds import BLOCKS, Round, connected


def time_to_the_last(round_: Round) -> None:
    """Measure the time to the last answer, compared with the limit's streams, and until all wait again."""
    subscribers = round_.plan.largest
    (limit,) = [one for one in round_.contestants if one.name == LIMIT]
    add = round_.results.add
    with connected([limit, replace(round_.ours, polls=True)], ["base"], subscribers) as loads:
        for load in loads:
            load.publish_to_all()
        for _ in range(BLOCKS):
            for load in loads:
                add("last polls", load.contestant.name, load.time(1)["last_seconds"] * 1000)
                if load.contestant.polls:
                    add("poll again", OURS, load.poll_again())
                    settle(load.contestant)
