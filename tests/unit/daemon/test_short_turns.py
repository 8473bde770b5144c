"""A turn of the real reactor serves so many sockets at most, and each socket has its turn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from twisted.internet.selectreactor import SelectReactor

from cyclone_sse.daemon.short_turns import SOCKETS_A_TURN, shorten_turns

epollreactor = pytest.importorskip("twisted.internet.epollreactor")


class Ready:
    """The end of a pipe that always has a byte to read. served: counts the turns of each."""

    def __init__(self, served: Counter[int]) -> None:
        self.served = served
        self.read, self.write = os.pipe()
        os.write(self.write, b"x")

    def fileno(self) -> int:
        return self.read

    def logPrefix(self) -> str:
        return "ready"

    def doRead(self) -> None:
        self.served[self.read] += 1

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def served() -> Iterator[Counter[int]]:
    """How often each of very many sockets was served in five turns."""
    counter: Counter[int] = Counter()
    reactor = epollreactor.EPollReactor()
    shorten_turns(reactor)
    pipes = [Ready(counter) for _ in range(2 * SOCKETS_A_TURN + 10)]
    for pipe in pipes:
        reactor.addReader(pipe)
    for turn in range(1, 6):
        reactor.doIteration(0)
        assert turn * (SOCKETS_A_TURN - 1) <= counter.total() <= turn * SOCKETS_A_TURN
    yield counter
    for pipe in pipes:
        reactor.removeReader(pipe)
        pipe.close()
    for waker in reactor.removeAll():
        waker.connectionLost(None)


def test_each_socket_has_its_turn(served: Counter[int]) -> None:
    assert len(served) == 2 * SOCKETS_A_TURN + 10, "none starves"
    assert max(served.values()) - min(served.values()) <= 1


def test_another_reactor_is_left_alone() -> None:
    reactor = SelectReactor()
    before = dict(vars(reactor))
    shorten_turns(reactor)
    assert vars(reactor) == before
