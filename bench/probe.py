"""How long a server lets others wait: a client that asks again and again, and keeps the longest answer time.

That is the longest turn of the reactor as others meet it. The server's own figure is too coarse for one short
action: it looks twenty times a second.
"""

from __future__ import annotations

import http.client
import threading
import time
from typing import Self

from bench.contestants import Contestant
from bench.load import leave_the_servers_core

PACE = 0.002  # seconds between an answer and the next question
PATIENCE = 60.0
TARGET = "/?channels=probe"  # with HEAD: the position, which costs no walk over anything


class Probe:
    """Asks from `with` to its end; `longest` is seconds."""

    def __init__(self, contestant: Contestant) -> None:
        self.longest = 0.0
        self._connection = http.client.HTTPConnection("127.0.0.1", contestant.port, timeout=PATIENCE)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._question()  # connecting is no part of what is measured
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _ask(self) -> None:
        leave_the_servers_core(0)
        while not self._over.wait(PACE):
            begin = time.perf_counter()
            self._question()
            self.longest = max(self.longest, time.perf_counter() - begin)

    def _question(self) -> None:
        self._connection.request("HEAD", TARGET)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the probe was answered with {answer.status}")
