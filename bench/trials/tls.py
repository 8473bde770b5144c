"""The same over TLS, beside the bare loop with OpenSSL."""

from __future__ import annotations

from bench.contestants import daemon, limit
from bench.load import Load, settle, write_certificate
from bench.programs import has_tls
from bench.results import LeftOut
from bench.rounds import Round, started


def time_to_the_last(round_: Round) -> None:
    """The time to the last of each crowd, and the memory of the largest."""
    if not has_tls():
        raise LeftOut("OpenSSL's headers are missing: apt install libssl-dev")
    certificate, key = write_certificate(round_.directory)
    options = ["--use-ssl=1", f"--ssl-cert={certificate}", f"--ssl-key={key}"]
    bare, ours = limit(round_.folder(), [certificate, key]), daemon(round_.folder(), *options, tls=True)
    largest = round_.plan.tls_crowds[0][0]
    with started(bare, ours):
        for subscribers, messages in round_.plan.tls_crowds:
            for contestant in (bare, ours):
                fresh = contestant.memory()
                with Load(contestant) as load:
                    load.connect(subscribers)
                    settle(contestant)
                    grown = contestant.memory() - fresh
                    load.publish_to_all()
                    last = load.time(messages)["last_seconds"]
                settle(contestant)
                round_.results.add(f"tls {subscribers}", contestant.name, last * 1000)
                if subscribers == largest:
                    round_.results.add("tls memory", contestant.name, grown / subscribers / 1024)
