"""`make bench`: that it measures and writes; its figures are for BENCHMARK.md, and no test asserts any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.integration.process import ROOT, need


def test_quick_bench_writes_report_and_plot(tmp_path: Path) -> None:
    need("gcc")
    words = [sys.executable, "-m", "bench", "--quick", "--output", str(tmp_path / "BENCHMARK.md")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "BENCHMARK.md").read_text()
    for title in (
        "time to the last of 300",
        "deliveries/s",
        "time to connect",
        "memory",
        "publishes/s",
        "processor",
    ):
        assert f"| {title}" in report
    assert "A quick run with small numbers" in report
    plot = ElementTree.parse(tmp_path / "benchmark.svg").getroot()
    labels = {text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")}
    assert {"limit", "cyclone-sse", "subscribers", "300"} <= labels
