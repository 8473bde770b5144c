"""One worker as its parent sees it: its lines, its reports, and what happens if there are none."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cyclone_sse.daemon.handover import ALIVE, READY, REPORTS, STOPPING
from cyclone_sse.daemon.worker_process import MAX_LINE, SILENCE_LIMIT, START_LIMIT, LogLines, WorkerProcess
from tests.unit.daemon.fakes import FakeProcess


@pytest.fixture
def clock() -> Clock:
    return Clock()


def running(clock: Clock, on_stopping: Any = None) -> tuple[WorkerProcess, FakeProcess]:
    """A worker that was started."""
    worker = WorkerProcess("worker 1", on_stopping or (lambda: None), clock)
    process = FakeProcess(worker)
    worker.makeConnection(process)
    return worker, process


def test_lines_come_whole_however_they_are_cut() -> None:
    lines = LogLines()
    assert list(lines.feed(b"one\ntw")) == ["one"]
    assert list(lines.feed(b"o\n\nthree")) == ["two", ""]
    assert list(lines.end()) == ["three"]
    assert list(lines.end()) == []


def test_a_line_without_end_is_cut_and_the_next_one_is_whole() -> None:
    lines = LogLines()
    for _ in range(100):
        assert list(lines.feed(b"x" * 1000)) == []
    (long, short) = lines.feed(b"y\nshort\n")
    assert long == "x" * MAX_LINE + " [cut]"
    assert short == "short"


def test_what_is_not_utf_8_is_shown() -> None:
    assert list(LogLines().feed(b"a\xff\n")) == ["a\\xff"]


def test_it_says_that_it_serves(clock: Clock) -> None:
    worker, _ = running(clock)
    ready: list[bool] = []
    worker.ready.addCallback(ready.append)
    worker.childDataReceived(REPORTS, ALIVE)
    assert not ready
    worker.childDataReceived(REPORTS, ALIVE + READY)
    worker.childDataReceived(REPORTS, READY)
    assert ready == [True]


def test_one_that_ends_before_it_serves_says_so(clock: Clock) -> None:
    worker, _ = running(clock)
    ready: list[bool] = []
    worker.ready.addCallback(ready.append)
    worker.processEnded(Failure(ProcessTerminated(1)))
    assert ready == [False]
    assert not worker.is_running


def test_one_that_is_silent_is_killed_and_one_that_reports_is_not(clock: Clock, failures: list[Any]) -> None:
    worker, process = running(clock)
    clock.advance(START_LIMIT - 1)
    worker.kill_if_hung()
    worker.childDataReceived(REPORTS, ALIVE)
    clock.advance(SILENCE_LIMIT)
    worker.kill_if_hung()
    assert process.signals == []
    clock.advance(1)
    worker.restart_silence()
    worker.kill_if_hung()
    assert process.signals == [], "the parent itself did not read for a while"
    clock.advance(SILENCE_LIMIT + 1)
    worker.kill_if_hung()
    assert process.signals == ["KILL"]


def test_one_that_never_reports_is_killed_in_the_end(clock: Clock) -> None:
    worker, process = running(clock)
    clock.advance(START_LIMIT + 1)
    worker.kill_if_hung()
    assert process.signals == ["KILL"]


def test_it_is_asked_to_stop_and_killed_if_it_does_not(clock: Clock) -> None:
    worker, process = running(clock)
    worker.stop(5)
    worker.stop(5)
    assert process.signals == ["TERM", "TERM"]
    clock.advance(5)
    assert process.signals[-1] == "KILL"


def test_the_killer_goes_with_the_process(clock: Clock) -> None:
    worker, _ = running(clock)
    worker.stop(5)
    worker.processEnded(Failure(ProcessTerminated(0)))
    assert not clock.getDelayedCalls()


def test_it_says_once_that_it_stops_unless_it_was_told_to(clock: Clock) -> None:
    stops: list[int] = []
    worker, _ = running(clock, lambda: stops.append(1))
    worker.childDataReceived(REPORTS, STOPPING)
    assert stops == [1]
    worker, _ = running(clock, lambda: stops.append(2))
    worker.stop(5)
    worker.childDataReceived(REPORTS, STOPPING)
    assert stops == [1]
