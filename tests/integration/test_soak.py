"""`make soak`: a short one on a real daemon, and that its witnesses would see a fault."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from bench.soak.ledger import Findings, Ledger, Witness
from tests.harness.process import ROOT

Seen = tuple[str, int]  # the channel and the number in it


def test_short_soak_finds_nothing_lost() -> None:
    words = [sys.executable, "-m", "bench.soak", "--minutes=0.1", "--clients=36"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    closing = done.stdout.splitlines()[-1]
    assert "lost 0, doubled 0, out of order 0, gaps 0; " in closing
    assert "longest turn of the last minute" in closing
    counted = {
        name: int(number) for number, name in re.findall(r"(\d+) (deliveries|connects|polls|events)", closing)
    }
    assert all(counted[name] > 30 for name in ("deliveries", "connects", "polls")), closing
    assert counted["events"], "presence is in the mix"


def publish(ledger: Ledger, channel: str, to: int) -> None:
    """Have all numbers of the channel taken, up to this one."""
    while ledger.begun[channel] < to:
        ledger.was_taken(ledger.next_message([channel]))


def findings(events: list[Seen], *, taken: int = 0) -> Findings:
    """What a client of `a` and `b` finds that was connected when 10 messages of each were begun."""
    found, ledger = Findings(), Ledger()
    publish(ledger, "a", 10)
    publish(ledger, "b", 10)
    witness = Witness("client", ["a", "b"], ledger, found)
    witness.opened()
    for channel, number in events:
        publish(ledger, channel, number)
    publish(ledger, "a", taken)
    for place, (channel, number) in enumerate(events):
        witness.event("message", json.dumps({channel: number}), f"{1000 + place}-0-tag")
    witness.close()
    return found


def test_all_in_order_is_sound() -> None:
    found = findings([("a", 11), ("b", 11), ("a", 12)])
    assert (found.deliveries, found.lost, found.doubled, found.reordered) == (3, 0, 0, 0)
    assert found.sound


def test_what_was_published_while_the_stream_opened_may_come() -> None:
    assert findings([("a", 9), ("a", 10), ("a", 11)]).sound
    assert findings([("a", 9), ("a", 11)]).lost == 1


@pytest.mark.parametrize(
    ("events", "lost", "doubled"),
    [
        ([("a", 11), ("a", 13)], 1, 0),  # in the middle
        ([("a", 13)], 2, 0),  # at the beginning
        ([("a", 11), ("a", 12), ("a", 12)], 0, 1),
        ([("a", 11), ("a", 12), ("a", 11)], 0, 1),
    ],
)
def test_a_fault_is_seen(events: list[Seen], lost: int, doubled: int) -> None:
    found = findings(events)
    assert (found.lost, found.doubled, found.sound) == (lost, doubled, False)
    assert found.examples


def test_what_never_comes_is_lost() -> None:
    assert findings([("a", 11)], taken=14).lost == 3


def test_ids_that_go_backwards_are_seen() -> None:
    found = Findings()
    witness = Witness("client", ["a", "b"], Ledger(), found)
    witness.opened()
    witness.event("message", '{"a": 1}', "1000-1-tag")
    witness.event("message", '{"b": 1}', "1000-0-tag")
    assert found.reordered == 1


def test_a_gap_that_is_told_excuses_its_channel_once() -> None:
    found = Findings()
    witness = Witness("client", ["a", "b"], Ledger(), found)
    witness.opened()
    witness.event("sse-gap", '{"channels": ["a"]}', "")
    witness.event("message", '{"a": 5}', "1000-0-tag")
    assert (found.gaps, found.lost) == (1, 0)
    witness.event("message", '{"b": 2}', "1001-0-tag")
    witness.event("message", '{"a": 7}', "1002-0-tag")
    assert found.lost == 2


def test_an_event_without_an_answer_may_arrive_or_not() -> None:
    found, ledger = Findings(), Ledger()
    witness = Witness("client", ["a"], ledger, found)
    witness.opened()
    publish(ledger, "a", 1)
    ledger.next_message(["a"])  # the server dies with it
    publish(ledger, "a", 4)
    witness.event("message", '{"a": 1}', "1000-0-tag")
    assert witness.missing() == ["a"]
    witness.event("message", '{"a": 4}', "1001-0-tag")
    assert found.lost == 1  # the third
    assert witness.missing() == []
