"""Run a real daemon with clients that connect and disconnect, and check that nothing is lost. `make soak`.

    python -m bench.soak [--minutes 10] [--clients 300] [--rate 50] [--restart 0] [--broker http] [-- OPTIONS]

All clients have tokens; some use `fields=channel`, some `presence=1`. With --restart=SECONDS the daemon,
which then has a --history-file, is killed and stopped in turns; with --broker=redis-stream, two workers are
replaced, and Redis is killed, in turns. Prints its progress and a result; exits with 1 if an event was lost,
doubled or reordered, or if a gap was sent after restarts.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.machine import allow_files
from bench.soak.clients import SECRET, Crowd
from bench.soak.ledger import Ledger
from bench.soak.publisher import BASE, KEY
from bench.soak.run import Soak
from tests.harness.clients import request
from tests.harness.ports import free_port
from tests.harness.servers import RedisServer, SseServer

WORKERS = 2
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")  # Redis loses nothing when it is killed
# A small buffer, so that sleeping clients fall behind; a history for the longest absence, and no longer, so
# that memory is constant after a minute.
OPTIONS = ["--client-buffer=65536", "--history-size=20000", "--history-ttl=60", "--history-bytes=268435456"]


def main() -> int:
    """Run the soak, and print the result."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second")
    parser.add_argument(
        "--restart", type=float, default=0.0, help="seconds; kill and stop the daemon in turns"
    )
    parser.add_argument("--broker", choices=("http", "redis-stream"), default="http")
    parser.add_argument("options", nargs="*", help="of the daemon, after --")
    settings = parser.parse_args()
    seconds = settings.minutes * 60
    allow_files(settings.clients)
    with tempfile.TemporaryDirectory(prefix="cyclone-sse-soak-") as name, ExitStack() as stack:
        directory = Path(name)
        redis, options = None, [*OPTIONS, *access(directory), *settings.options]
        if settings.broker == "redis-stream":
            redis = stack.enter_context(RedisServer(directory, *DURABLE))
            options += ["--broker=redis-stream", f"--redis-port={redis.port}", f"--workers={WORKERS}"]
        elif settings.restart:
            options.append(f"--history-file={directory}/history.sqlite")
        admin = free_port()
        server = stack.enter_context(SseServer(directory, *options, f"--admin-port={admin}"))
        soak = Soak(server, Crowd(server.port, Ledger()), settings.clients, settings.rate, redis)
        asyncio.run(soak.run(seconds, settings.restart, lambda passed: progress(soak, passed)))
        turn = max(longest_turn(admin + number) for number in range(WORKERS if redis else 1))
    return closing_line(soak, seconds, turn)


def access(directory: Path) -> list[str]:
    """The options for tokens, for the publishers' key, and for channels with presence."""
    (directory / "channels.toml").write_text(f'["{BASE}"]\npresence = true\n')
    return [
        f"--jwt-secret={SECRET}",
        f"--http-secret={KEY}",
        f"--public={BASE}",
        f"--channels={directory / 'channels.toml'}",
    ]


def longest_turn(admin_port: int) -> float:
    """Seconds of the longest turn of the reactor in the last minute, from the server's metrics."""
    text = request("GET", f"http://127.0.0.1:{admin_port}/metrics").body.decode()
    found = re.search(r"^cyclone_sse_longest_turn_seconds (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def progress(soak: Soak, passed: float) -> None:
    """Print a line about the progress."""
    crowd, found = soak.crowd, soak.crowd.findings
    print(
        f"{passed:6.0f} s  {crowd.connected:4} connected  {crowd.counts['connects']:7} connects  "
        f"{found.deliveries:9} deliveries  lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}  {soak.memory[-1]:.1f} MiB",
        flush=True,
    )


def closing_line(soak: Soak, seconds: float, turn: float) -> int:
    """The result in one line, and the exit code."""
    found, counts, memory = soak.crowd.findings, soak.crowd.counts, soak.memory
    for example in found.examples:
        print(f"  {example}")
    print(
        f"soak: {seconds:.0f} s, {found.deliveries} deliveries, {counts['connects']} connects, "
        f"{counts['polls']} polls, {counts['ended by the server']} cut off by the server, "
        f"{counts['refused']} refused, {soak.restarts} restarts: lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}; {found.own_events} events of the server's own; "
        f"longest turn of the last minute {turn * 1000:.0f} ms; resident {memory[0]:.1f} MiB at first, "
        f"{max(memory):.1f} at most, {memory[-1]:.1f} at the end"
    )
    return 0 if found.sound and not (soak.restarts and found.gaps) else 1


if __name__ == "__main__":
    sys.exit(main())
