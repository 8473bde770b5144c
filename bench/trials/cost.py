"""The processor time in user space for one connection and for one publish, compared with an earlier version.

The kernel's share, which is larger and the same for both, would hide the difference.
"""

from __future__ import annotations

from functools import partial

from bench.load import Load, settle
from bench.results import LeftOut
from bench.rounds import BLOCKS, Round, connected, in_turns


def user_time(round_: Round) -> None:
    """Measure the microseconds for each connection, and for each publish to few subscribers."""
    plan = round_.plan
    both = round_.versions
    if len(both) < 2:
        raise LeftOut("git does not have the earlier version")
    for _ in range(BLOCKS):
        for contestant in both:
            with Load(contestant) as load:
                before = contestant.user_time()
                load.connect(plan.largest)
                settle(contestant)
                spent = contestant.user_time() - before
            settle(contestant)
            round_.results.add("cost connect", contestant.name, spent / plan.largest * 1e6)
    with connected(both, ["base"], plan.publish_subscribers) as loads:
        for load in loads:
            load.publish_to_all()
        in_turns(loads, partial(_publish, plan.publishes), partial(round_.results.add, "cost publish"))


def _publish(count: int, load: Load) -> float:
    before = load.contestant.user_time()
    load.flow(count // BLOCKS)
    return (load.contestant.user_time() - before) / (count // BLOCKS) * 1e6
