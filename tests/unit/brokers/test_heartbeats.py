"""A connection that is open but deaf is found out and ended."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from cyclone_sse.brokers.heartbeats import HEARTBEAT_SLOW, HEARTBEAT_WAIT
from cyclone_sse.brokers.link import NotAllowed, WrongServer
from cyclone_sse.brokers.publishing_connection import PUBLISH_WAIT
from cyclone_sse.brokers.upstream import HEARTBEAT_INTERVAL
from tests.unit.brokers.links import FakeBroker, FakeLink, outcome


class BeatingBroker(FakeBroker):
    """It receives its own heartbeats as long as `hears` is set."""

    has_heartbeat = True
    hears = True
    problem_of_server: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.reachable = lambda: BeatingLink(self)
        self.connect()

    async def check_server(self) -> None:
        if self.problem_of_server is not None:
            raise self.problem_of_server

    @property
    def receiving(self) -> Any:
        return self.links[0]


class BeatingLink(FakeLink):
    answer_of_heartbeat: Exception | None = None

    def __init__(self, broker: BeatingBroker) -> None:
        super().__init__()
        self.broker = broker

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        if self.answer_of_heartbeat is not None:
            return fail(self.answer_of_heartbeat)
        if self.broker.hears:
            self.broker.obey_json(b'{"heartbeat": "%s"}' % token.encode())
        return succeed(None)


def run(broker: BeatingBroker, seconds: float) -> None:
    broker.clock.pump([1] * int(seconds))


def test_a_heartbeat_that_comes_back_leaves_all_as_it_is() -> None:
    broker = BeatingBroker()
    run(broker, 60)
    assert len(broker.links) == 2  # one for messages, one for publishing
    assert broker.available


def test_one_that_does_not_come_back_is_a_problem_and_then_the_end(log: list[str]) -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    broker.hears = False
    run(broker, HEARTBEAT_INTERVAL + 3)
    assert broker.problem == "a heartbeat sent through the broker does not arrive"
    run(broker, HEARTBEAT_WAIT)
    assert broker.receiving.aborted
    broker.hears = True
    run(broker, 20)
    assert broker.available
    assert [line for line in log if line.startswith("lost")] == [
        "lost Fake at 1:2: a heartbeat sent through it did not arrive"
    ]


def test_it_is_found_out_within_half_a_minute() -> None:
    assert 2 * HEARTBEAT_INTERVAL + HEARTBEAT_WAIT < 30


def test_one_that_was_never_taken_proves_nothing(log: list[str]) -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    broker.links[1].answer_of_heartbeat = NotAllowed("NOPERM")  # type: ignore[attr-defined]
    run(broker, 100)
    assert (broker.receiving.aborted, broker.available) == (False, True)
    assert len([line for line in log if "does not allow the heartbeat: NOPERM" in line]) == 2  # once a minute


def test_a_server_that_takes_no_messages_is_a_problem_but_not_the_end() -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    broker.links[1].blocked = "low on memory"
    broker.hears = False
    run(broker, 100)
    assert (broker.receiving.aborted, broker.problem) == (
        False,
        "the broker accepts no messages: low on memory",
    )


def test_another_master_ends_both_connections() -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    broker.problem_of_server = WrongServer("the sentinels name another")
    run(broker, HEARTBEAT_INTERVAL)
    assert [link.aborted for link in broker.links[:2]] == [True, True]
    broker.problem_of_server = None
    run(broker, 10)
    assert broker.available


def test_the_heartbeats_of_others_prove_nothing() -> None:
    broker = BeatingBroker()
    broker.hears = False
    run(broker, HEARTBEAT_INTERVAL + 1)
    broker.obey_json(b'{"heartbeat": "other-1"}')
    broker.obey_json(b'{"heartbeat": ["other"]}')
    run(broker, HEARTBEAT_WAIT)
    assert broker.receiving.aborted


@pytest.mark.parametrize("error", [ValueError("odd"), TimeoutError("slow")])
def test_a_check_that_fails_is_tried_again(error: Exception) -> None:
    broker = BeatingBroker()
    broker.problem_of_server = error
    run(broker, 30)
    broker.problem_of_server = None
    run(broker, 30)
    assert len(broker.links) == 2


def test_a_server_that_answers_no_heartbeat_is_a_problem_all_the_time() -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    broker.links[1].publish_heartbeat = lambda token: Deferred()  # type: ignore[method-assign]
    run(broker, HEARTBEAT_INTERVAL + HEARTBEAT_SLOW)
    for _ in range(50):
        run(broker, 1)
        assert broker.problem
    del broker.links[1].publish_heartbeat
    run(broker, HEARTBEAT_INTERVAL + 1)
    assert broker.available


def test_a_publisher_that_is_not_answered_is_a_problem_until_there_is_another_connection() -> None:
    broker = BeatingBroker()
    run(broker, HEARTBEAT_INTERVAL)
    outcome(broker.publish(["a"], "x"))
    broker.reachable = Deferred
    broker.clock.advance(PUBLISH_WAIT)
    for _ in range(5):
        run(broker, 1)
        assert broker.problem == "messages cannot be published: no answer in time"
    broker.reachable = lambda: BeatingLink(broker)
    run(broker, 20)
    assert broker.available
