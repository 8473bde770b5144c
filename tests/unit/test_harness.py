"""The harness of the tests: ports given once, sockets closed, one time to wait, and what a failure shows."""

from __future__ import annotations

import gc
import re
import subprocess
import sys

import pytest

from tests.harness import evidence, ports
from tests.harness.clients import Subscriber
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT

# Takes what it can get of two ports, says so, and keeps it until its input ends.
OTHER = """
import sys
from tests.harness import evidence, ports
ports.PORTS = range(int(sys.argv[1]), int(sys.argv[1]) + 2)
print(ports.free_port(), flush=True)
sys.stdin.read()
"""


def test_no_two_processes_are_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = both = ports.free_ports(2)
    ports._release(both[1])
    words = [sys.executable, "-c", OTHER, str(first)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert int(other.stdout.readline()) == both[1]
        monkeypatch.setattr(ports, "PORTS", both)
        with pytest.raises(AssertionError, match="is free"):
            ports.free_port()
    assert ports.free_port() == both[1], "the other process has ended"


def test_no_port_is_given_twice() -> None:
    given = [ports.free_port() for _ in range(100)]
    assert len(set(given)) == 100


def test_a_subscriber_that_cannot_connect_leaves_no_socket_open() -> None:
    """Or the warning about it, which is an error, fails whichever test runs when it is collected."""
    with pytest.raises(ConnectionRefusedError):
        Subscriber(f"http://127.0.0.1:{ports.free_port()}")
    gc.collect()


def test_what_runs_beside_a_test_is_shown_until_it_is_gone() -> None:
    """Also when a part of it cannot tell anything."""
    before = evidence.collect()
    evidence.offer("page", "the page", lambda: str(1 // 0))
    evidence.offer("server", "the log", lambda: "x" * evidence.MOST + "the end")
    (_, page), (name, log) = evidence.collect()[len(before) :]
    assert page.startswith("ZeroDivisionError")
    assert (name, log[-7:], len(log)) == ("the log", "the end", evidence.MOST)
    evidence.withdraw("page")
    evidence.withdraw("server")
    assert evidence.collect() == before


# Seconds as a number where something may take too long; a fraction of one second is part of what is tested.
OWN_LIMIT = re.compile(r"(?<![-\w])(?:timeout=|(?:settimeout|join|result|wait)\()(\d+)(?=[,)])")


@pytest.mark.parametrize("room", ["harness", "integration"])
def test_nothing_waits_for_less_than_all_others(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "tests" / room).rglob("*.py"))
        for match in OWN_LIMIT.finditer(path.read_text())
        if 1 < int(match[1]) < PATIENCE
    ]
    assert found == [], "PATIENCE is for all"
