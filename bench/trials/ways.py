"""Every kind of subscription, compared with the limit: the time to the last subscriber, and to connect.

TLS and long polls have trials of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contestants import Contestant, daemon
from bench.results import LIMIT
from bench.rounds import BLOCKS, Round, connected, in_turns, started
from bench.trials.fan_out import CHANNELS

ROOMS = '["base"]\npresence = true\n'


def time_to_the_last(round_: Round) -> None:
    """Measure each kind with one crowd, and `fields=channel` also with two channels for each client."""
    ours = round_.ours
    _measure(round_, "fields", replace(ours, query="fields=channel"))
    _measure(round_, "fields own", replace(ours, query="fields=channel"), "own")
    _measure(round_, "state", replace(ours, query="state=1"))
    file = round_.folder() / "channels.toml"
    file.write_text(ROOMS)
    rooms = replace(daemon(round_.folder(), f"--channels={file}"), query="presence=1")
    with started(rooms):
        _measure(round_, "presence", rooms)
    with _on_a_unix_socket(round_.folder()) as server:
        _measure(round_, "unix", server)


@contextmanager
def _on_a_unix_socket(folder: Path) -> Iterator[Contestant]:
    with TemporaryDirectory(prefix="sse-") as short:  # the path of a socket has at most 107 bytes
        path = f"{short}/socket"
        server = replace(daemon(folder, f"--endpoint=unix:{path}"), path=path)
        with started(server):
            yield server


def _measure(round_: Round, way: str, server: Contestant, kind: str = "one") -> None:
    subscribers, messages = round_.plan.crowds[0]
    (limit,) = [one for one in round_.contestants if one.name == LIMIT]
    with connected([limit, server], CHANNELS[kind], subscribers) as loads:
        for load in loads:
            round_.results.add(f"connect {way}", load.contestant.name, load.connect_seconds)
            load.publish_to_all()
        in_turns(
            loads,
            lambda load: load.time(messages // BLOCKS)["last_seconds"] * 1000,
            partial(round_.results.add, f"last {way}"),
        )
