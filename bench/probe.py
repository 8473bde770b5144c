"""How long a server lets others wait: a client that asks again and again, and keeps the longest answer time.

That is the longest turn of the reactor as others meet it. The server's own figure is too coarse for one short
action: it looks twenty times a second. It is a process: a thread would wait for the interpreter.
What else the machine does makes an answer later, never earlier: let the best of several count.
"""

from __future__ import annotations

import http.client
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Self

from bench.contestants import Contestant
from bench.load import leave_the_servers_core

PACE = 0.002  # seconds between an answer and the next question
PATIENCE = 60.0
TARGET = "/?channels=probe"  # with HEAD: the position, which costs no walk over anything


class Probe:
    """Asks from `with` to its end; then `longest` is seconds."""

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
    _question(connection)  # connecting is no part of what is measured
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
