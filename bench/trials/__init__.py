"""The trials, a file for each kind; `TRIALS` has the order in which a round runs them.

A trial gets a `Round`, puts loads on its contestants in turns, and adds its measurements to the results. If
the machine or the server lacks something, LeftOut is raised.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.rounds import Round
from bench.trials import (
    channels,
    cost,
    fan_out,
    idle,
    patterns,
    polls,
    publishing,
    redis_stream,
    rooms,
    storm,
    tls,
    turns,
    ways,
)

Trial = Callable[[Round], None]

# The fan-out is first: it measures the memory of fresh processes.
TRIALS: dict[str, Trial] = {
    "fanout": fan_out.time_to_the_last,
    "deliveries": fan_out.deliveries,
    "ways": ways.time_to_the_last,
    "polls": polls.time_to_the_last,
    "storm": storm.come_back,
    "tls": tls.time_to_the_last,
    "publishes": publishing.publishes,
    "own": publishing.to_ones_own,
    "batch": publishing.batch,
    "channels": channels.publish_to_all,
    "pattern": patterns.new_pattern,
    "patterns": patterns.idle_patterns,
    "presence": rooms.burst,
    "history": publishing.with_history_file,
    "stream": redis_stream.burst,
    "entries": redis_stream.reading,
    "crowds": turns.crowds,
    "floods": turns.floods,
    "cost": cost.user_time,
    "idle": idle.watch,
}
