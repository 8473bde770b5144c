"""Ports that are free, and that no other run of the tests is about to take."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

# Below 32768: the kernel takes the ports of outgoing connections from above it, and could give away the
# port of a server that a test has just killed and is about to start again.
PORTS = range(10_000, 32_000)

_given: set[int] = set()  # by this process, which its own locks do not hinder


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now, and that no other caller is given while this process runs."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """So many neighbours of that kind."""
    starts = PORTS[: len(PORTS) + 1 - count]
    for first in random.sample(starts, min(len(starts), 1000)):
        ports = range(first, first + count)
        if all(_reserve(port) and _is_free(port) for port in ports):
            return ports
    raise AssertionError(f"no port of {PORTS} is free")


def _reserve(port: int) -> bool:
    """Lock that byte of the file that all runs share; the kernel unlocks it when this process ends.

    Without this a run beside ours could take the port before the server that it is for has bound it, or
    while that server is killed and started again.
    """
    if port in _given:
        return False
    try:
        fcntl.lockf(_shared_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


def _release(port: int) -> None:
    """Let others have it."""
    _given.discard(port)
    fcntl.lockf(_shared_file(), fcntl.LOCK_UN, 1, port)


@cache
def _shared_file() -> int:
    """Open it, once: when a process closes any descriptor of a file, all its locks of that file are gone."""
    path = Path(tempfile.gettempdir()) / f"cyclone-sse-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
