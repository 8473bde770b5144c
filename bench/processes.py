"""What the kernel says of processes (proc(5)), of which any may end while it is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def all_processes() -> list[tuple[int, list[str]]]:
    """Every process with what /proc/PID/stat says after its name: state, ppid, pgrp, session ..."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
    return found


def resident_bytes(pids: Iterable[int]) -> int:
    """The resident sets of these processes together."""
    pages = 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE
