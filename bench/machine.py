"""The machine: its limit of open files, and the kernel's figures for processes (proc(5))."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

SPARE_FILES = 200  # descriptors that a process needs in addition to its subscribers'
PAGE = os.sysconf("SC_PAGE_SIZE")


def allow_files(subscribers: int) -> bool:
    """Raise the limit of this process and its children to the hard limit; returns whether that is enough."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or hard >= subscribers + SPARE_FILES


def all_processes() -> list[tuple[int, list[str]]]:
    """Every process with the fields of /proc/PID/stat after its name: state, ppid, pgrp, session, .."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended meanwhile
            found.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
    return found


def resident_bytes(pids: Iterable[int]) -> int:
    """The sum of the resident sets of these processes."""
    pages = 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE


def description() -> str:
    """Cores, kernel and versions, in one line."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    model = models[0].partition(": ")[2] if models else platform.machine()
    kernel = platform.release().partition("-")[0]
    return (
        f"{os.cpu_count()} cores of {model}, Linux {kernel}, Python {platform.python_version()}, "
        f"Twisted {version('twisted')}"
    )
