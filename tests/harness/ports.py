"""Ports that are free."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now.

    Below 32768: the kernel takes the ports of outgoing connections from above it, and could give
    away the port of a server that a test has just killed and is about to start again.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
