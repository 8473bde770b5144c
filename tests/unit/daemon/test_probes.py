"""What `--check=1` asks of other servers; with real ones in tests/integration/test_check.py."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError, ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import Logger

from cyclone_sse.brokers.base import Broker
from cyclone_sse.brokers.redis_stream import RedisStreamBroker
from cyclone_sse.daemon.probes import PROBE_PATIENCE, Probed, collected_errors, probe_broker, run_probes
from cyclone_sse.options import with_defaults
from tests.unit.brokers import links


class FakeBroker:
    """A broker that is available or not after some seconds, and logs a reason some time before."""

    name = "redis"
    log = Logger()

    def __init__(self, clock: Clock, available: bool, reason: str = "") -> None:
        self.available = False
        self.connected = False
        self._outcome = available, reason
        self._clock = clock

    def connect(self) -> None:
        self.connected = True
        self._clock.callLater(1, self._complain)
        self._clock.callLater(1.5, self._answer)

    def _complain(self) -> None:
        if reason := self._outcome[1]:
            self.log.error("{reason}", reason=reason)

    def _answer(self) -> None:
        self.available = self._outcome[0]

    def disconnect(self) -> None:
        self.connected = False


def probed(broker: Any, clock: Clock) -> Probed:
    """What the probe finds."""
    found: list[Probed] = []
    Deferred.fromCoroutine(probe_broker(broker, clock)).addCallback(found.append)
    clock.pump([0.05] * int(2 * PROBE_PATIENCE / 0.05))
    assert found, "it ends"
    assert not getattr(broker, "connected", False), "it is left as it was"
    return found[0]


def test_a_broker_that_answers_is_well() -> None:
    clock = Clock()
    assert probed(FakeBroker(clock, True), clock) == Probed()


def test_the_errors_of_a_broker_that_connects_are_warnings() -> None:
    """The server would start, and serve with them."""
    clock = Clock()
    found = probed(FakeBroker(clock, True, "Redis refuses the control channel"), clock)
    assert found == Probed([], ["--broker=redis: Redis refuses the control channel"])


@pytest.mark.parametrize(
    ("reason", "told"), [("cannot reach it", "cannot reach it"), ("", "no answer in time")]
)
def test_one_that_does_not_is_named_with_what_the_log_would_say(reason: str, told: str) -> None:
    clock = Clock()
    assert probed(FakeBroker(clock, False, reason), clock) == Probed([f"--broker=redis: {told}"])


def test_a_redis_stream_that_refuses_the_connection_is_named_once() -> None:
    clock = Clock()
    broker = RedisStreamBroker({}, clock)
    broker.open_link = lambda publishing: fail(ConnectionRefusedError())  # type: ignore[method-assign]
    [line] = probed(broker, clock).mistakes
    assert line.startswith("--broker=redis-stream: cannot reach stream 'cyclone-sse' of Redis")
    assert not line.endswith("still trying"), "the check does not try again"


def test_a_broker_that_is_always_available_is_well_only_if_it_connects() -> None:
    clock = Clock()

    class Custom(Broker):
        def connect(self) -> Deferred[None]:
            d: Deferred[None] = Deferred()
            clock.callLater(1, d.errback, ValueError("no such exchange"))
            return d

    assert probed(Custom({}, "own", clock), clock) == Probed(["--broker=own: no such exchange"])


def test_a_broker_that_can_only_receive_is_a_mistake() -> None:
    broker = links.FakeBroker()
    broker.reachable = lambda: links.wrong() if broker.links else links.FakeLink()
    assert probed(broker, broker.clock) == Probed(
        ["--broker=fake: Fake at 1:2: messages cannot be published: WRONGPASS"]
    )


class FakeReactor(Clock):
    """A reactor that a signal stops after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._until = seconds
        self._running = True

    def callWhenRunning(self, start: Any) -> None:
        self.callLater(0, start)

    def run(self) -> None:
        while self._running and self.seconds() < self._until:
            self.advance(0.05)
        self._running = False

    def stop(self) -> None:
        if not self._running:
            raise ReactorNotRunning
        self._running = False


@pytest.mark.parametrize(("seconds", "mistakes"), [(0.5, ["the check was interrupted"]), (60, [])])
def test_a_check_that_a_signal_ends_is_no_success(seconds: float, mistakes: list[str]) -> None:
    reactor = FakeReactor(seconds)
    broker: Any = FakeBroker(reactor, True)
    assert run_probes(with_defaults({}), broker, reactor) == Probed(mistakes)


def test_the_errors_of_the_log_are_collected_once_each() -> None:
    log = Logger()
    with collected_errors() as lines:
        log.error("away")
        log.error("away")
        log.info("no error")
    log.error("later")
    assert lines == ["away"]
