"""Run a real daemon under clients that come and go, and check from outside that nothing is lost. `make soak`.

    python -m bench.soak [--minutes 10] [--clients 300] [--rate 50] [--restart 0] [-- OPTIONS OF THE DAEMON]

With --restart the daemon has a --history-file. Prints a line now and then, and one at the end; exits with 1
when an event was lost, doubled or reordered, or after restarts a gap was told.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.machine import allow_files
from bench.soak.clients import Crowd
from bench.soak.ledger import Ledger
from bench.soak.run import Soak
from tests.harness.servers import SseServer

# A small buffer, so that who sleeps is cut off; a history that reaches back to the longest absence, and no
# further, so that memory is level after a minute.
OPTIONS = ["--client-buffer=65536", "--history-size=20000", "--history-ttl=60", "--history-bytes=268435456"]


def main() -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second")
    parser.add_argument(
        "--restart", type=float, default=0.0, help="seconds; kill and stop the daemon in turns"
    )
    parser.add_argument("options", nargs="*", help="of the daemon, after --")
    settings = parser.parse_args()
    seconds = settings.minutes * 60
    allow_files(settings.clients)
    with tempfile.TemporaryDirectory(prefix="cyclone-sse-soak-") as directory:
        kept = [f"--history-file={directory}/history.sqlite"] if settings.restart else []
        with SseServer(Path(directory), *OPTIONS, *kept, *settings.options) as server:
            soak = Soak(server, Crowd(server.port, Ledger()), settings.clients, settings.rate)
            asyncio.run(soak.run(seconds, settings.restart, lambda passed: progress(soak, passed)))
    return closing_line(soak, seconds)


def progress(soak: Soak, passed: float) -> None:
    """One line for a person who watches."""
    crowd, found = soak.crowd, soak.crowd.findings
    print(
        f"{passed:6.0f} s  {crowd.connected:4} connected  {crowd.counts['connects']:7} connects  "
        f"{found.deliveries:9} deliveries  lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}  {soak.memory[-1]:.1f} MiB",
        flush=True,
    )


def closing_line(soak: Soak, seconds: float) -> int:
    """The result in one line, and the exit code."""
    found, counts, memory = soak.crowd.findings, soak.crowd.counts, soak.memory
    for example in found.examples:
        print(f"  {example}")
    print(
        f"soak: {seconds:.0f} s, {found.deliveries} deliveries, {counts['connects']} connects, "
        f"{counts['polls']} polls, {counts['ended by the server']} cut off by the server, "
        f"{counts['refused']} refused, {soak.restarts} restarts: lost {found.lost}, doubled {found.doubled}, "
        f"out of order {found.reordered}, gaps {found.gaps}; resident {memory[0]:.1f} MiB at first, "
        f"{max(memory):.1f} at most, {memory[-1]:.1f} at the end"
    )
    return 0 if found.sound and not (soak.restarts and found.gaps) else 1


if __name__ == "__main__":
    sys.exit(main())
