"""A burst of XADD: to many subscribers, and to channels without clients of the server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.contestants import daemon
from bench.load import Load, leave_the_servers_core, message, settle
from bench.results import OURS, REFERENCE, LeftOut
from bench.rounds import BLOCKS, Round, started
from bench.trials.publishing import own
from tests.harness.process import need
from tests.harness.servers import RedisServer, redis_command

STREAM = "cyclone-sse"  # the daemon's default


def burst(round_: Round) -> None:
    """Measure events a second until all subscribers have the last, compared with `redis-benchmark`.

    All entries are in one write to Redis.
    """
    plan = round_.plan
    with _subscribed(round_, plan.stream_subscribers) as (load, port):
        load.publish_with([_entry("base") * plan.entries], port)
        for _ in range(BLOCKS):
            measured = load.time(1, each=plan.entries * plan.stream_subscribers)
            round_.results.add("stream", OURS, plan.entries / measured["last_seconds"])
            round_.results.add("stream", REFERENCE, _xadds_a_second(port, plan.entries))


def reading(round_: Round) -> None:
    """Measure the same to channels without a client; the last entry, to a client, shows that all are read."""
    plan, add = round_.plan, round_.results.add
    with _subscribed(round_, 1) as (load, port):
        others = b"".join(_entry(own(number)) for number in range(1, plan.entries))
        load.publish_with([others + _entry("base")], port)
        for _ in range(BLOCKS):
            before = load.contestant.cpu()
            add("entries", OURS, plan.entries / load.time(1)["last_seconds"])
            settle(load.contestant)
            add("entries processor", OURS, (load.contestant.cpu() - before) / plan.entries * 1e6)


@contextmanager
def _subscribed(round_: Round, subscribers: int) -> Iterator[tuple[Load, int]]:
    """A load of subscribers on a server with its own Redis, and the port of Redis."""
    with RedisServer(round_.folder()) as redis:
        leave_the_servers_core(redis.pid)
        ours = daemon(round_.folder(), "--broker=redis-stream", f"--redis-port={redis.port}")
        with started(ours), Load(ours) as load:
            load.connect(subscribers)
            yield load, redis.port


def _entry(channel: str) -> bytes:
    return redis_command("XADD", STREAM, "*", "channel", channel, "message", message())


def _xadds_a_second(port: int, count: int) -> float:
    """The result of redis-benchmark with its defaults: 50 connections, no pipelining."""
    words = ["-p", str(port), "-n", str(count), "--csv", "XADD", "bench", "*", "channel", "base"]
    command = [need("redis-benchmark"), *words, "message", message()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    try:
        return float(done.stdout.strip().splitlines()[-1].split(",")[-7].strip('"'))
    except (IndexError, ValueError):
        raise LeftOut(f"redis-benchmark: {done.stdout} {done.stderr}") from None
