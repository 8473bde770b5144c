"""A turn of the real reactor serves sockets for a limited time, each in its turn, then calls what is due."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from cyclone_sse.reactor_turns import SOCKETS_A_TURN, SOCKETS_TIME, call_soon, shorten_turns
from tests.harness.patience import PATIENCE

epollreactor = pytest.importorskip("twisted.internet.epollreactor")


class Ready:
    """The end of a pipe that always has a byte to read. served: counts the turns of each. on_read: called in
    each turn."""

    def __init__(self, served: Counter[int], on_read: Callable[[], object] = lambda: None) -> None:
        self.served = served
        self.on_read = on_read
        self.read, self.write = os.pipe()
        os.write(self.write, b"x")

    def fileno(self) -> int:
        return self.read

    def logPrefix(self) -> str:
        return "ready"

    def doRead(self) -> None:
        self.served[self.read] += 1
        self.on_read()

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


@contextmanager
def pipes_of(
    reactor: Any, count: int, on_read: Callable[[], object] = lambda: None
) -> Iterator[Counter[int]]:
    """So many sockets that are always ready; counts how often each was served."""
    counter: Counter[int] = Counter()
    shorten_turns(reactor)
    pipes = [Ready(counter, on_read) for _ in range(count)]
    for pipe in pipes:
        reactor.addReader(pipe)
    yield counter
    for pipe in pipes:
        reactor.removeReader(pipe)
        pipe.close()
    for waker in reactor.removeAll():
        waker.connectionLost(None)


def served_beside(failing: Ready, turns: int) -> set[int]:
    """How often two other sockets are served in so many turns beside this one."""
    reactor = epollreactor.EPollReactor()
    with pipes_of(reactor, 0):
        reactor.addReader(failing)
        with pipes_of(reactor, 2) as served:
            for _ in range(turns):
                reactor.doIteration(0)
            counts = set(served.values())
    failing.close()
    return counts


def test_each_socket_has_its_turn() -> None:
    reactor = epollreactor.EPollReactor()
    reactor.seconds = lambda: 0.0
    with pipes_of(reactor, 2 * SOCKETS_A_TURN + 10) as served:
        for turn in range(1, 6):
            reactor.doIteration(0)
            assert turn * (SOCKETS_A_TURN - 1) <= served.total() <= turn * SOCKETS_A_TURN
        assert len(served) == 2 * SOCKETS_A_TURN + 10, "none starves"
        assert max(served.values()) - min(served.values()) <= 1


def test_a_turn_of_sockets_that_cost_much_ends_early_and_each_has_its_turn() -> None:
    reactor = epollreactor.EPollReactor()
    now = [0.0]
    reactor.seconds = lambda: now[0]

    def work() -> None:
        now[0] += SOCKETS_TIME / 4

    with pipes_of(reactor, 20, work) as served:
        for _ in range(4):
            reactor.doIteration(0)
        served.clear()
        for turn in range(1, 11):
            reactor.doIteration(0)
            assert served.total() <= 5 * turn
        assert len(served) == 20, "none starves"
        assert max(served.values()) - min(served.values()) <= 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_socket_that_fails_at_its_end_is_logged_and_the_others_are_served(
    error: type[BaseException], failures: list[Any]
) -> None:
    class Failing(Ready):
        def doRead(self) -> Any:
            return ConnectionDone()

        def connectionLost(self, reason: Any) -> None:
            raise error

    assert served_beside(Failing(Counter()), turns=1) == {1}
    assert [failure["log_failure"].type for failure in failures] == [error]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_socket_that_fails_while_it_is_read_ends_and_the_others_are_served(
    error: type[BaseException], failures: list[Any]
) -> None:
    ends: list[BaseException] = []

    class Failing(Ready):
        def doRead(self) -> None:
            raise error

        def connectionLost(self, reason: Any) -> None:
            ends.append(reason.value)

    assert served_beside(Failing(Counter()), turns=2) == {2}
    assert [type(end) for end in ends] == [error]
    assert [failure["log_failure"].type for failure in failures] == [error]


def test_a_socket_that_another_closes_in_the_same_turn_is_not_served(failures: list[Any]) -> None:
    reactor = epollreactor.EPollReactor()
    served: Counter[int] = Counter()
    pipes = [Ready(served) for _ in range(2)]

    def close_other() -> None:
        for pipe in pipes:
            if pipe.read not in served:
                reactor.removeReader(pipe)

    with pipes_of(reactor, 0):
        for pipe in pipes:
            pipe.on_read = close_other
            reactor.addReader(pipe)
        reactor.doIteration(0)
        assert served.total() == 1
        assert failures == []
        reactor.removeAll()
    for pipe in pipes:
        pipe.close()


def test_what_is_due_is_called_at_the_end_of_the_turn() -> None:
    reactor = epollreactor.EPollReactor()
    called: list[str] = []
    with pipes_of(reactor, 3, lambda: called.append("socket")):
        call_soon(reactor, lambda: called.append("due"))
        call_soon(reactor, lambda: call_soon(reactor, lambda: called.append("next")))
        reactor.doIteration(None)
        assert called.count("socket") > 0
        assert called[-1] == "due"
        reactor.doIteration(None)
        assert called[-1] == "next"
        reactor.doIteration(0)
        assert called[-1] == "socket", "each is called once"


def test_a_turn_without_sockets_does_not_wait_while_a_call_is_due() -> None:
    reactor = epollreactor.EPollReactor()
    with pipes_of(reactor, 0):
        called: list[str] = []
        call_soon(reactor, lambda: called.append("due"))
        began = time.monotonic()
        reactor.doIteration(PATIENCE)
        assert called == ["due"]
        assert time.monotonic() - began < PATIENCE


def test_a_call_that_fails_is_logged_and_the_others_follow(failures: list[Any]) -> None:
    reactor = epollreactor.EPollReactor()
    with pipes_of(reactor, 1):
        called: list[str] = []
        call_soon(reactor, lambda: 1 / 0)
        call_soon(reactor, lambda: called.append("due"))
        reactor.doIteration(0)
        assert called == ["due"]
        assert [failure["log_failure"].type for failure in failures] == [ZeroDivisionError]


def test_a_call_that_runs_the_reactor_has_each_call_made_once() -> None:
    reactor = epollreactor.EPollReactor()
    with pipes_of(reactor, 1):
        called: list[str] = []

        def run() -> None:
            called.append("run")
            reactor.doIteration(0)

        call_soon(reactor, run)
        call_soon(reactor, lambda: called.append("due"))
        for _ in range(2):
            reactor.doIteration(0)
        assert called == ["run", "due"]


def test_where_turns_are_not_short_the_reactor_calls_it() -> None:
    clock = Clock()
    called: list[str] = []
    call_soon(clock, lambda: called.append("due"))
    assert called == []
    clock.advance(0)
    assert called == ["due"]


def test_another_reactor_is_left_alone() -> None:
    reactor = SelectReactor()
    before = dict(vars(reactor))
    shorten_turns(reactor)
    assert vars(reactor) == before
