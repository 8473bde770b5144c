"""What a publisher meets: how many a second, in batches, to very many channels, and kept in a file."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from bench.contestants import Contestant, daemon
from bench.load import Load, message, settle
from bench.results import OURS, REFERENCE, LeftOut
from bench.rounds import BLOCKS, Round, connected, in_turns, started

PUBLISHERS = 16  # at once, with and without a file: one alone would measure a commit's latency
JSON = "application/json"


def own(number: int) -> str:
    """The channel of the subscriber with that number, as load.c writes it."""
    return f"user-{number:06d}"


def publishes(round_: Round) -> None:
    """One publisher, few subscribers, four messages under way."""
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
    """The same to one subscriber's own channel among very many, another for each message."""
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
    """Many events in one POST, each to a channel and a subscriber of its own: events a second to the last."""
    plan, ours = round_.plan, round_.ours
    events = [{"channel": own(number), "message": message()} for number in range(1, plan.batch + 1)]
    with Load(ours, ["user-%d"]) as load:
        load.connect(plan.batch)
        load.publish_with([ours.post("/publish", json.dumps(events), JSON)])
        measured = load.time(plan.batches, each=plan.batch)
    round_.results.add("batch", OURS, plan.batch / measured["last_seconds"])


def many_channels(round_: Round) -> None:
    """One event to very many channels on a fresh server: seconds until it is answered, and what it took."""
    plan = round_.plan
    ours = daemon(round_.folder())
    names = [own(number) for number in range(1, plan.channels + 1)]
    body = json.dumps({"channel": names, "message": message()}).encode()
    with started(ours), Load(ours, ["user-%d"]) as load:
        load.connect(min(plan.flow_subscribers, plan.channels))
        settle(ours)
        before = ours.memory()
        _forget_peak(ours)
        begin = time.monotonic()
        _post(f"http://127.0.0.1:{ours.port}/publish", body)
        seconds = time.monotonic() - begin
        settle(ours)
        grown = max(_peak(ours), ours.memory()) - before
    round_.results.add("channels", OURS, seconds)
    round_.results.add("channels memory", OURS, grown / 1e6)


def with_history_file(round_: Round) -> None:
    """Publishes a second with a file that keeps them, beside the same without."""
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


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": JSON})
    try:
        with urllib.request.urlopen(request, timeout=60):
            pass
    except urllib.error.HTTPError as error:
        raise LeftOut(f"the server refused: {error.code} {error.read().decode()}") from None


def _forget_peak(contestant: Contestant) -> None:
    """Reset the largest resident set that the kernel has counted (proc(5), clear_refs)."""
    for pid in contestant.pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak(contestant: Contestant) -> int:
    """The largest resident set since then, in bytes."""
    return sum(
        int(line.split()[1]) * 1024
        for pid in contestant.pids()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
