"""Figures of this process."""

from __future__ import annotations

import os
import time

from cyclone_sse.daemon.process_figures import process_figures


def test_they_are_those_of_this_process() -> None:
    figures = process_figures()
    assert 2**20 < figures["resident_memory_bytes"] < figures["virtual_memory_bytes"]
    assert abs(figures["open_fds"] - len(os.listdir("/proc/self/fd"))) <= 2
    assert figures["open_fds"] < figures["max_fds"]
    assert figures["cpu_seconds_total"] > 0
    assert time.time() - 86400 < figures["start_time_seconds"] <= time.time() + 1
