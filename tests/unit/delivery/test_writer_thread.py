"""The thread that may wait: one call after the other, and what comes of each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from cyclone_sse.delivery.writer_thread import WriterThread
from tests.harness.patience import PATIENCE


class Calls:
    """A reactor that is called from another thread."""

    def __init__(self) -> None:
        self.waiting: SimpleQueue[tuple[Callable[..., Any], Any]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., Any], argument: Any) -> None:
        self.waiting.put((function, argument))

    def take(self) -> None:
        function, argument = self.waiting.get(timeout=PATIENCE)
        function(argument)


def test_calls_come_one_after_the_other_in_another_thread() -> None:
    reactor = Calls()
    writer = WriterThread(reactor)
    results: list[Any] = []
    for number in range(3):
        writer.call(lambda n: (n, threading.current_thread()), number).addCallback(results.append)
    for _ in range(3):
        reactor.take()
    writer.stop()
    assert [number for number, _ in results] == [0, 1, 2]
    (thread,) = {thread for _, thread in results}
    assert thread is not threading.current_thread()
    assert thread.daemon, "the process may end while it waits for a disk"
    assert not thread.is_alive()


def test_what_is_raised_fails_its_call_alone() -> None:
    reactor = Calls()
    writer = WriterThread(reactor)
    failed: list[Any] = []
    results: list[Any] = []
    writer.call(lambda: 1 / 0).addErrback(lambda failure: failed.append(failure.type))
    writer.call(lambda: "after").addCallback(results.append)
    reactor.take()
    reactor.take()
    writer.stop()
    assert (failed, results) == ([ZeroDivisionError], ["after"])


def test_without_a_call_there_is_no_thread() -> None:
    before = threading.active_count()
    writer = WriterThread(Calls())
    assert threading.active_count() == before
    writer.stop()
