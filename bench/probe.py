"""The longest time for which a server keeps other clients waiting: a client that sends requests repeatedly.

The longest answer time is the longest turn of the reactor, as clients notice it. The server's own figure is
too coarse for one short action: it is taken twenty times a second. The client is a process, since a thread
would wait for the interpreter. Other load on the machine only delays answers: use the best of several.
"""

from __future__ import annotations

import http.client
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Self

from bench.contestants import Contestant
from bench.load import leave_the_servers_core

PACE = 0.002  # seconds between an answer and the next request
PATIENCE = 60.0
TARGET = "/?channels=probe"  # with HEAD: the position, which needs no loop over clients or events


class Probe:
    """Sends requests until the end of `with`; then `longest` is the longest answer time in seconds."""

    def __init__(self, contestant: Contestant) -> None:
        self.longest = 0.0
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_ask, args=(contestant.port, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("over")
        if not self._pipe.poll(PATIENCE):
            raise RuntimeError("the probe has no answer")
        self.longest = self._pipe.recv()
        self._process.join()


def _ask(port: int, pipe: Connection) -> None:
    leave_the_servers_core(0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    longest = 0.0
    _question(connection)  # without this, the time to connect would be measured too
    pipe.send("ready")
    while not pipe.poll(PACE):
        begin = time.perf_counter()
        _question(connection)
        longest = max(longest, time.perf_counter() - begin)
    pipe.send(longest)


def _question(connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", TARGET)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the probe was answered with {answer.status}")
