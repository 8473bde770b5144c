"""`make bench`: that it measures and writes; its figures are for BENCHMARK.md, and no test asserts any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.plan import QUICK
from bench.programs import has_tls
from bench.report import omitted, table, verdict
from bench.results import LIMIT, OURS, Results
from bench.rows import Row
from tests.harness.process import ROOT, left_out, need


@pytest.mark.timeout(330)
def test_quick_bench_writes_report_and_plot(tmp_path: Path) -> None:
    need("gcc")
    words = [sys.executable, "-m", "bench", "--quick", "--output", str(tmp_path / "BENCHMARK.md")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "BENCHMARK.md").read_text()
    for title in (
        "time to the last of 300",
        "the last of 300, each also with a channel of its own",
        "the last of 300, asked with `fields=channel`",
        "the last of 300, asked with `presence=1`",
        "the last of 300, on a UNIX socket, beside TCP",
        "the last of 300 long polls is answered",
        "300 that were answered wait in their next poll",
        "user time for each connection",
        "the last of 300, each with three channels",
        "deliveries/s",
        "time to connect 300",
        "300 reconnect at once, 10 missed events each",
        "memory for each idle subscriber",
        "publishes/s, 10 subscribers",
        "publishes/s to one's own channel among 300",
        "one publish to 200 channels",
        "one publish to 200 channels: longest turn",
        "one new pattern, 200 channels held: longest turn",
        "events/s beside 10 idle streams of 3 patterns",
        "presence: 50 join a room of 50 within 1 s: events for each member",
        "longest turn while 300 reconnect",
        "longest turn in the worst flood",
        "processor with 300 idle of 10 channels each",
    ):
        assert f"| {title}" in report
    assert "A quick run with small numbers" in report
    assert "load average at the start: " in report
    plot = ElementTree.parse(tmp_path / "benchmark.svg").getroot()
    labels = {text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")}
    assert {"limit", "cyclone-sse", "subscribers", "300"} <= labels
    if not has_tls():
        left_out("OpenSSL's headers are not installed")
    assert "| TLS: time to the last of 100" in report


def test_a_ratio_is_taken_within_its_round() -> None:
    results = Results()
    for ours, limit in ((10.0, 5.0), (40.0, 10.0), (12.0, 3.0)):
        results.add("last", OURS, ours)
        results.add("last", LIMIT, limit)
    assert results.ratio("last", OURS) == 4.0
    assert (results.value("last", OURS), results.value("last", LIMIT)) == (12.0, 5.0)
    assert results.ratio("last", LIMIT) is None


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("m", "t", "{}", 2.0), True),
        (Row("m", "t", "{}", 1.9), False),
        (Row("m", "t", "{}", 2.0, at_least=True), True),
        (Row("m", "t", "{}", 2.1, at_least=True), False),
        (Row("m", "t", "{}", 11.0, absolute=True), True),
        (Row("m", "t", "{}", 9.0, absolute=True), False),
        (Row("m", "t", "{}"), None),
        (Row("other", "t", "{}", 1.0), None),
    ],
)
def test_a_target_is_met_or_not(row: Row, met: bool | None) -> None:
    results = Results()
    results.add("m", OURS, 10.0)
    results.add("m", LIMIT, 5.0)
    assert row.met(results) is met


def test_report_says_what_is_missed_and_what_was_left_out() -> None:
    results = Results()
    results.add("memory", OURS, 5.0)
    results.left_out["stream"] = "no such broker"
    assert "| memory for each idle subscriber | 5.0 KiB |  | ≤ 4.0 KiB | **no** |" in table(results, QUICK)
    assert verdict(results, QUICK).startswith("0 of 1 measured targets are met; missed: memory")
    assert "- left out: *stream*: no such broker" in omitted(results)
