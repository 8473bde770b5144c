"""Run a real daemon under clients that come and go, and check from outside that nothing is lost. `make soak`.

    python -m bench.soak [--minutes 10] [--clients 300] [--rate 50] [-- OPTIONS OF THE DAEMON]

Prints a line now and then, and one at the end; exits with 1 when an event was lost, doubled or reordered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from bench.limits import allow_files
from bench.soak.clients import KINDS, Client, Crowd, Kind
from bench.soak.ledger import Ledger
from bench.soak.publisher import BASE, BULK, own, post_large, post_small
from tests.integration.servers import SseServer

BULK_RATE = 10.0  # large messages a second
LINES = 20  # of progress
PATIENCE = 30.0  # seconds at the end, after which what has not come is lost
# A small buffer, so that who sleeps is cut off; a history that reaches back to the longest absence, and no
# further, so that memory is level after a minute.
OPTIONS = ["--client-buffer=65536", "--history-size=20000", "--history-ttl=60", "--history-bytes=268435456"]


def main() -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second")
    parser.add_argument("options", nargs="*", help="of the daemon, after --")
    settings = parser.parse_args()
    seconds = settings.minutes * 60
    allow_files(settings.clients)
    with tempfile.TemporaryDirectory(prefix="cyclone-sse-soak-") as directory:
        server = SseServer(Path(directory), *OPTIONS, *settings.options)
        with server:
            crowd = Crowd(server.port, Ledger())
            memory = asyncio.run(soak(server, crowd, settings.clients, settings.rate, seconds))
    return closing_line(crowd, seconds, memory)


async def soak(server: SseServer, crowd: Crowd, clients: int, rate: float, seconds: float) -> list[float]:
    """Let them live for so long, and then until all have what they must get; the memory over time, in MiB."""
    everybody = [Client(crowd, number, *_role(number)) for number in range(clients)]
    lives = [asyncio.create_task(client.live()) for client in everybody]
    publishers = [
        asyncio.create_task(post_small(server.port, crowd.ledger, clients, rate)),
        asyncio.create_task(post_large(server.port, crowd.ledger, BULK_RATE)),
    ]
    memory: list[float] = []
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        memory.append(server.memory() / 2**20)
        progress(crowd, passed, memory[-1])
        await asyncio.wait(
            [*lives, *publishers], timeout=seconds / LINES, return_when=asyncio.FIRST_COMPLETED
        )
        _raise_failures([*lives, *publishers])
    await _cancel(publishers)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and any(one.witness.missing(crowd.ledger.taken) for one in everybody):
        await asyncio.wait(lives, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        _raise_failures(lives)
    await _cancel(lives)
    for client in everybody:
        client.witness.close(crowd.ledger.taken)
    memory.append(server.memory() / 2**20)
    return memory


def _role(number: int) -> tuple[Kind, list[str]]:
    """All hear a common channel and their own; some of the sleepers also what fills buffers."""
    kind = KINDS[number % len(KINDS)]
    return kind, [BASE, own(number), *([BULK] if kind.sleeps and number < 10 * len(KINDS) else [])]


def _raise_failures(tasks: list[asyncio.Task[None]]) -> None:
    """None of these ends by itself: whoever has ended has failed."""
    for task in tasks:
        if task.done():
            task.result()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def progress(crowd: Crowd, passed: float, memory: float) -> None:
    """One line for a person who watches."""
    found = crowd.findings
    print(
        f"{passed:6.0f} s  {crowd.connected:4} connected  {crowd.counts['connects']:7} connects  "
        f"{found.deliveries:9} deliveries  lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}  {memory:.1f} MiB",
        flush=True,
    )


def closing_line(crowd: Crowd, seconds: float, memory: list[float]) -> int:
    """The result in one line, and the exit code."""
    found, counts = crowd.findings, crowd.counts
    for example in found.examples:
        print(f"  {example}")
    print(
        f"soak: {seconds:.0f} s, {found.deliveries} deliveries, {counts['connects']} connects, "
        f"{counts['polls']} polls, {counts['ended by the server']} cut off by the server, "
        f"{counts['refused']} refused: lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}; resident {memory[0]:.1f} MiB at first, "
        f"{max(memory):.1f} at most, {memory[-1]:.1f} at the end"
    )
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main())
