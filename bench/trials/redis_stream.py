"""A burst of XADD to the last subscriber, beside what `redis-benchmark` XADDs a second."""

from __future__ import annotations

import subprocess

from bench.contestants import daemon
from bench.load import Load, leave_the_servers_core, message
from bench.results import OURS, REFERENCE, LeftOut
from bench.rounds import BLOCKS, Round, started
from tests.harness.process import need
from tests.harness.servers import RedisServer

STREAM = "cyclone-sse"  # the daemon's default


def burst(round_: Round) -> None:
    """All entries in one write to Redis; events a second until all subscribers have the last."""
    plan = round_.plan
    with RedisServer(round_.folder()) as redis:
        leave_the_servers_core(redis.pid)
        ours = daemon(round_.folder(), "--broker=redis-stream", f"--redis-port={redis.port}")
        with started(ours), Load(ours) as load:
            load.connect(plan.stream_subscribers)
            entry = _command("XADD", STREAM, "*", "channel", "base", "message", message())
            load.publish_with([entry * plan.entries], redis.port)
            for _ in range(BLOCKS):
                measured = load.time(1, each=plan.entries * plan.stream_subscribers)
                round_.results.add("stream", OURS, plan.entries / measured["last_seconds"])
                round_.results.add("stream", REFERENCE, _xadds_a_second(redis.port, plan.entries))


def _command(*words: str) -> bytes:
    """A command in Redis' own form (RESP): a count, then each word with its length."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _xadds_a_second(port: int, count: int) -> float:
    """What redis-benchmark measures with its own defaults: 50 connections, no pipelining."""
    words = ["-p", str(port), "-n", str(count), "--csv", "XADD", "bench", "*", "channel", "base"]
    command = [need("redis-benchmark"), *words, "message", message()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    try:
        return float(done.stdout.strip().splitlines()[-1].split(",")[-7].strip('"'))
    except (IndexError, ValueError):
        raise LeftOut(f"redis-benchmark: {done.stdout} {done.stderr}") from None
