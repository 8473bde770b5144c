"""One event to very many channels."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.contestants import Contestant, daemon
from bench.load import Load, message, settle
from bench.results import OURS, LeftOut
from bench.rounds import Round, started
from bench.trials.publishing import JSON, own


def publish_to_all(round_: Round) -> None:
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
