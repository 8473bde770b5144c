"""What any client can send, from a fuzzer, for a few seconds; `python -m tests.fuzz` runs longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not made for this Python")

TARGETS = ("reader", "connection", "form", "publication", "event_id")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_is_sent_raises(target: str, tmp_path: Path) -> None:
    limits = ["-max_total_time=3", "-max_len=3000", f"-artifact_prefix={tmp_path}/"]
    words = [sys.executable, "-m", "tests.fuzz", target, str(tmp_path), *limits]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
