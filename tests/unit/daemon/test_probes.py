"""What `--check=1` asks of other servers; with real ones in tests/integration/test_check.py."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from cyclone_sse.daemon.probes import PROBE_PATIENCE, collected_errors, probe_broker


class FakeBroker:
    """A broker that is available, or says why not, after some seconds."""

    name = "redis"
    log = Logger()

    def __init__(self, clock: Clock, available: bool, reason: str = "") -> None:
        self.available = False
        self.connected = False
        self._outcome = available, reason
        self._clock = clock

    def connect(self) -> None:
        self.connected = True
        self._clock.callLater(1, self._answer)

    def _answer(self) -> None:
        self.available, reason = self._outcome
        if reason:
            self.log.error("{reason}", reason=reason)

    def disconnect(self) -> None:
        self.connected = False


def probed(broker: Any, clock: Clock) -> str | None:
    """The reason that the probe gives."""
    found: list[str | None] = []
    Deferred.fromCoroutine(probe_broker(broker, clock)).addCallback(found.append)
    clock.pump([0.05] * int(2 * PROBE_PATIENCE / 0.05))
    assert not broker.connected, "it is left as it was"
    return found[0]


def test_a_broker_that_answers_is_well() -> None:
    clock = Clock()
    assert probed(FakeBroker(clock, True), clock) is None


@pytest.mark.parametrize(
    ("reason", "told"), [("cannot reach it", "cannot reach it"), ("", "no answer in time")]
)
def test_one_that_does_not_is_named_with_what_the_log_would_say(reason: str, told: str) -> None:
    clock = Clock()
    assert probed(FakeBroker(clock, False, reason), clock) == f"--broker=redis: {told}"


def test_the_errors_of_the_log_are_collected_once_each() -> None:
    log = Logger()
    with collected_errors() as lines:
        log.error("away")
        log.error("away")
        log.info("no error")
    log.error("later")
    assert lines == ["away"]
