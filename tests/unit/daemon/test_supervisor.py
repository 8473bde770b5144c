"""The supervisor with processes that are none: when it starts, restarts, replaces and kills them."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.daemon import supervisor
from cyclone_sse.daemon.handover import ALIVE, READY, REPORTS, STOPPING
from cyclone_sse.daemon.supervisor import STABLE_AFTER, SupervisorService
from cyclone_sse.daemon.worker_process import SILENCE_LIMIT
from cyclone_sse.options import with_defaults
from tests.unit.daemon.fakes import FakeProcess, FakeReactor


class Reactor(FakeReactor):
    """A reactor that keeps the processes that it was asked to start."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.arguments: list[list[str]] = []
        self.is_full = False  # as a machine without memory for another process

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], **how: Any) -> None:
        if self.is_full:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.arguments.append(args)
        self.processes.append(FakeProcess(protocol))
        protocol.makeConnection(self.processes[-1])

    @property
    def running(self) -> list[FakeProcess]:
        """Those that have not ended."""
        return [process for process in self.processes if process.protocol.is_running]

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which all processes report that they are alive."""
        for _ in range(round(seconds)):
            for process in self.running:
                if not process.hangs:
                    process.protocol.childDataReceived(REPORTS, ALIVE)
            self.advance(1)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def service(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> Iterator[SupervisorService]:
    """Two workers without sockets, of which each serves at once."""
    monkeypatch.setattr(supervisor, "open_sockets", lambda *_, **__: [])
    options = with_defaults({"workers": 2, "broker": "redis-stream", "drain": 5.0})
    made = SupervisorService(options, ["--drain=5"], lambda: None, reactor, flags=["--reactor=poll"])
    made.privilegedStartService()
    made.startService()
    for process in reactor.processes:
        process.report(READY)
    yield made
    stopped = made.stopService() if made.running else None
    for process in reactor.running:
        process.end()
    assert stopped is None or stopped.called
    assert not reactor.getDelayedCalls()


def test_workers_get_the_command_line_and_the_flags(service: SupervisorService, reactor: Reactor) -> None:
    words = ["-n", "--pidfile=", "--reactor=poll", "cyclone-sse", "--drain=5"]
    assert [args[2:] for args in reactor.arguments] == [words, words]


def test_workers_are_refused_with_an_endpoint_that_they_would_not_have(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: Any = SimpleNamespace(factory=object())
    monkeypatch.setattr(supervisor, "open_sockets", lambda *_, **__: [bound])
    service = SupervisorService(with_defaults({"workers": 2}), [], lambda: None, reactor)
    with pytest.raises(SystemExit, match="--workers cannot pass on"):
        service.privilegedStartService()


def test_a_crash_loop_gets_slower(service: SupervisorService, reactor: Reactor) -> None:
    """One that lives for a second is no better than one that dies at once."""
    starts = []
    reactor.processes[0].end()
    for _ in range(60):
        before = len(reactor.processes)
        reactor.pass_time(1)
        if len(reactor.processes) > before:
            starts.append(reactor.seconds())
            reactor.pass_time(1)
            reactor.processes[-1].end()
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps == sorted(gaps)
    assert len(starts) <= 6


def test_one_that_lived_long_is_back_soon(service: SupervisorService, reactor: Reactor) -> None:
    for _ in range(5):
        reactor.pass_time(STABLE_AFTER + 1)
        reactor.running[0].end()
        reactor.pass_time(2)
        assert len(reactor.running) == 2


def test_one_that_hangs_is_killed_and_replaced(service: SupervisorService, reactor: Reactor) -> None:
    hung = reactor.processes[0]
    reactor.pass_time(1)
    hung.hangs = True
    reactor.pass_time(SILENCE_LIMIT + 2)
    assert hung.signals == ["KILL"]
    hung.end()
    reactor.advance(0)
    assert len(reactor.running) == 2, "at once"


def test_one_that_hangs_does_not_hold_up_the_stop(service: SupervisorService, reactor: Reactor) -> None:
    hung, other = reactor.processes
    reactor.pass_time(1)
    hung.hangs = True
    stopped = service.stopService()
    assert [hung.signals, other.signals] == [["TERM"], ["TERM"]]
    other.end()
    reactor.pass_time(SILENCE_LIMIT + 2)
    assert hung.signals == ["TERM", "KILL"]
    hung.end()
    assert stopped.called


def test_all_are_replaced_one_after_the_other(service: SupervisorService, reactor: Reactor) -> None:
    first, second = reactor.processes
    service.reload()
    assert len(reactor.processes) == 3
    assert not first.signals, "until the new one serves"
    reactor.processes[2].report(READY)
    assert first.signals == ["TERM"]
    assert len(reactor.processes) == 3, "the second waits for the end of the first"
    first.end()
    reactor.processes[3].report(READY)
    assert second.signals == ["TERM"]
    second.end()
    assert reactor.running == reactor.processes[2:]


def test_one_that_waits_for_its_restart_can_be_replaced(service: SupervisorService, reactor: Reactor) -> None:
    first, second = reactor.processes
    first.end()
    service.reload()
    reactor.processes[2].report(READY)
    reactor.processes[3].report(READY)
    second.end()
    reactor.pass_time(10)
    assert reactor.running == reactor.processes[2:]
    assert len(reactor.running) == 2


def test_a_new_one_that_does_not_start_leaves_the_old_ones(
    service: SupervisorService, reactor: Reactor
) -> None:
    old = list(reactor.processes)
    service.reload()
    reactor.processes[2].end()
    reactor.pass_time(10)
    assert reactor.running == old


@pytest.mark.parametrize("starts", [True, False])
def test_a_second_order_to_replace_all_is_followed_after_the_first(
    service: SupervisorService, reactor: Reactor, starts: bool
) -> None:
    """Also if the first one has failed: the mistake may have been corrected before the second."""
    service.reload()
    service.reload()
    if starts:
        for number in (0, 1):
            reactor.processes[2 + number].report(READY)
            reactor.processes[number].end()
    else:
        reactor.processes[2].end()
    last = len(reactor.processes) - 1
    assert last == (4 if starts else 3), "the second order is followed"
    old_ones = reactor.running[:2]
    for number, old in enumerate(old_ones):
        reactor.processes[last + number].report(READY)
        assert old.signals == ["TERM"]
        old.end()
    assert reactor.running == reactor.processes[last:]
    assert len(reactor.running) == 2, "and there is no third one"


def test_an_order_during_a_replacement_is_forgotten_when_all_stop(
    service: SupervisorService, reactor: Reactor
) -> None:
    service.reload()
    service.reload()
    service.stopService()
    for process in reactor.running:
        process.end()
    assert len(reactor.processes) == 3


def test_a_slot_whose_old_and_new_one_end_is_filled_again(
    service: SupervisorService, reactor: Reactor
) -> None:
    service.reload()
    reactor.processes[0].end()
    reactor.processes[2].end()
    reactor.pass_time(5)
    assert len(reactor.running) == 2


def test_one_that_is_told_to_stop_by_others_has_a_successor_at_once(
    service: SupervisorService, reactor: Reactor
) -> None:
    """Its share of the port would wait until it has drained."""
    told = reactor.processes[0]
    told.report(STOPPING)
    reactor.pass_time(1)
    assert len(reactor.running) == 3
    told.end()
    reactor.pass_time(10)
    assert len(reactor.running) == 2


def test_one_that_others_stop_while_its_successor_starts_has_one_successor(
    service: SupervisorService, reactor: Reactor
) -> None:
    old, other = reactor.processes
    service.reload()
    old.report(STOPPING)
    reactor.pass_time(2)
    assert reactor.running == [old, other, reactor.processes[2]]
    reactor.processes[2].report(READY)
    old.end()
    reactor.processes[3].report(READY)
    other.end()
    reactor.pass_time(10)
    assert reactor.running == reactor.processes[2:]
    assert len(reactor.running) == 2


@pytest.mark.parametrize("drains", [True, False])
def test_one_that_others_stop_is_replaced_if_its_successor_does_not_start(
    service: SupervisorService, reactor: Reactor, drains: bool
) -> None:
    old, other = reactor.processes
    service.reload()
    old.report(STOPPING)
    reactor.pass_time(2)
    if not drains:
        old.end()
    reactor.processes[2].end()
    reactor.pass_time(5)
    assert reactor.running == [*([old] if drains else []), other, reactor.processes[3]]
    if drains:
        old.end()
    reactor.pass_time(60)
    assert reactor.running == [other, reactor.processes[3]]


def test_a_successor_that_others_stop_while_it_starts_replaces_nothing(
    service: SupervisorService, reactor: Reactor
) -> None:
    old = list(reactor.processes)
    service.reload()
    new = reactor.processes[2]
    new.report(STOPPING)
    reactor.pass_time(2)
    new.report(READY)
    new.end()
    reactor.pass_time(60)
    assert reactor.running == old
    assert not any(process.signals for process in old)


def test_a_signal_to_all_processes_starts_no_other(service: SupervisorService, reactor: Reactor) -> None:
    for process in reactor.processes:
        process.report(STOPPING)
    service.stopService()
    reactor.pass_time(2)
    assert len(reactor.processes) == 2


def test_a_second_order_kills_all(service: SupervisorService, reactor: Reactor) -> None:
    stopped: Deferred[Any] = service.stopService()
    service.hurry()
    assert all(process.signals == ["TERM", "KILL"] for process in reactor.processes)
    for process in reactor.running:
        process.end()
    assert stopped.called


def test_a_worker_that_cannot_be_made_is_started_later(service: SupervisorService, reactor: Reactor) -> None:
    reactor.is_full = True
    reactor.processes[0].end()
    reactor.pass_time(5)
    assert len(reactor.processes) == 2
    reactor.is_full = False
    reactor.pass_time(5)
    assert len(reactor.running) == 2


def test_workers_stay_if_their_successors_cannot_be_made(
    service: SupervisorService, reactor: Reactor
) -> None:
    reactor.is_full = True
    service.reload()
    reactor.pass_time(1)
    assert reactor.running == reactor.processes
    assert not any(process.signals for process in reactor.processes)
    reactor.is_full = False
    service.reload()
    assert len(reactor.running) == 3


def test_a_supervisor_whose_workers_cannot_be_made_stops(
    service: SupervisorService, reactor: Reactor
) -> None:
    reactor.is_full = True
    reactor.processes[0].end()
    reactor.advance(1)  # when it would be started again
    stopped = service.stopService()
    reactor.processes[1].end()
    reactor.advance(0)
    assert stopped.called
