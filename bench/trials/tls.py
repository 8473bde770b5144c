"""One message to all subscribers over TLS, compared with the bare loop with OpenSSL."""

from __future__ import annotations

from functools import partial

from bench.contestants import Contestant, daemon, limit
from bench.programs import has_tls
from bench.results import LeftOut
from bench.rounds import BLOCKS, Round, connected, in_turns, started
from tests.harness.certificates import tls_options, write_certificates


def time_to_the_last(round_: Round) -> None:
    """Measure the time to the last of each crowd, and the memory of the largest."""
    if not has_tls():
        raise LeftOut("OpenSSL's headers are missing: apt install libssl-dev")
    files = write_certificates(round_.directory)
    bare = limit(round_.folder(), [files / "chain.pem", files / "leaf.key"])
    ours = daemon(round_.folder(), *tls_options(files), tls=True)
    with started(bare, ours):
        for subscribers, messages in round_.plan.tls_crowds:
            _measure(round_, [bare, ours], subscribers, messages)


def _measure(round_: Round, contestants: list[Contestant], subscribers: int, messages: int) -> None:
    add = round_.results.add
    with connected(contestants, ["base"], subscribers) as loads:
        for load in loads:
            if subscribers == round_.plan.tls_crowds[0][0]:  # the first load of this process
                add("tls memory", load.contestant.name, load.memory_for_each())
            load.publish_to_all()
        in_turns(
            loads,
            lambda load: load.time(messages // BLOCKS)["last_seconds"] * 1000,
            partial(add, f"tls {subscribers}"),
        )
