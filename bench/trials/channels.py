"""One event to very many channels."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.contestants import Contestant, daemon
from bench.load import Load, message, settle
from bench.probe import Probe
from bench.results import OURS, LeftOut
from bench.rounds import Round, started
from bench.trials.publishing import JSON

NAME = "c%06d"  # as load.c writes numbers; short: 95,000 of them fit into one request of the default size


def publish_to_all(round_: Round) -> None:
    """Measure each number of channels on a new server, with a thousand subscribers."""
    for channels in round_.plan.channels:
        _measure(round_, channels)


def _measure(round_: Round, channels: int) -> None:
    """Measure the seconds to publish one event, the longest wait of others, and the memory."""
    ours = daemon(round_.folder())
    names = [NAME % number for number in range(1, channels + 1)]
    body = json.dumps({"channel": names, "message": message()}, separators=(",", ":")).encode()
    with started(ours), Load(ours, ["c%d"]) as load:
        load.connect(min(round_.plan.flow_subscribers, channels))
        settle(ours)
        before = ours.memory()
        _forget_peak(ours)
        with Probe(ours) as probe:
            begin = time.monotonic()
            post(ours, body)
            seconds = time.monotonic() - begin
            settle(ours)
        grown = max(_peak(ours), ours.memory()) - before
    round_.results.add(f"channels {channels}", OURS, seconds)
    round_.results.add(f"channels {channels} turn", OURS, probe.longest * 1000)
    round_.results.add(f"channels {channels} memory", OURS, grown / 1e6)


def post(contestant: Contestant, body: bytes) -> None:
    """Publish this JSON; raises LeftOut if the server refuses."""
    url = f"http://127.0.0.1:{contestant.port}/publish"
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
    """The largest resident set since `_forget_peak`, in bytes."""
    return sum(
        int(line.split()[1]) * 1024
        for pid in contestant.pids()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
