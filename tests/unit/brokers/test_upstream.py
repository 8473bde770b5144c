"""A connection that is kept up, over links that the test holds in its hands."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError

from cyclone_sse.brokers.subscribing import SubscribingBroker
from cyclone_sse.brokers.upstream import LOG_IN_WAIT
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from tests.unit.brokers.links import FakeBroker, FakeLink, connected, outcome, refused, wrong


def test_each_change_of_state_is_one_line(log: list[str]) -> None:
    broker = FakeBroker()
    broker.reachable = refused
    broker.connect()
    broker.clock.pump([1] * 60)
    assert broker.attempts > 5
    broker.reachable = wrong
    broker.clock.pump([1] * 60)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 30)
    broker.links[0].lose()
    broker.reachable = refused
    broker.clock.pump([1] * 60)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 30)
    assert [line.partition(":")[0] for line in log] == [
        "cannot reach Fake at 1",
        "refused by Fake at 1",
        "reconnected to Fake at 1",
        "lost Fake at 1",
        "reconnected to Fake at 1",
    ]
    assert "WRONGPASS" in log[1]


def test_one_that_does_not_answer_the_login_is_given_up(log: list[str]) -> None:
    broker = FakeBroker()
    broker.reachable = lambda: FakeLink(prompt=False)
    broker.connect()
    broker.clock.advance(LOG_IN_WAIT)
    assert broker.links[0].aborted
    broker.reachable = FakeLink
    broker.clock.pump([1] * 3)
    assert log == [
        "cannot reach Fake at 1:2: no answer in time; still trying",
        "reconnected to Fake at 1:2",
    ]


def test_the_time_between_attempts_grows_to_twenty_seconds() -> None:
    broker = FakeBroker()
    broker.reachable = refused
    broker.connect()
    waits = []
    while broker.attempts < 30:
        (call,) = [each for each in broker.clock.getDelayedCalls() if "LoopingCall" not in str(each)]
        waits.append(call.getTime() - broker.clock.seconds())
        broker.clock.advance(waits[-1])
    assert waits[0] < 2
    assert all(18 < wait <= 20 for wait in waits[-10:])
    assert len(set(waits[-10:])) == 10  # a hundred instances do not reconnect at the same moment


def test_it_is_available_while_it_is_connected() -> None:
    broker = FakeBroker()
    assert not broker.available
    broker.connect()
    assert broker.available
    broker.links[0].lose()
    assert not broker.available
    broker.clock.pump([1] * 3)
    assert (broker.available, broker.hub.counters.broker_reconnects) == (True, 1)


def test_one_that_hangs_up_at_once_is_not_asked_in_a_tight_loop() -> None:
    broker = connected()
    for _ in range(600):
        if broker.links[-1].lost is None:
            broker.links[-1].lose()
        broker.clock.advance(1)
    assert broker.attempts < 60


def test_what_has_no_place_upstream_is_refused_before_it_is_sent() -> None:
    broker = connected()
    with pytest.raises(Refusal, match="event"):
        broker.publish_all([publication("a", "x", type="t")])
    broker.carries = frozenset(("event",))  # type: ignore[misc]
    with pytest.raises(Refusal, match="retry"):
        broker.publish_all([publication("a", "x", type="t", retry=5)])
    broker.carries = frozenset(("event", "retry"))  # type: ignore[misc]
    broker.publish_all([publication("a", "x", type="t", retry=5)])
    assert len(broker.links[1].published) == 1


def test_an_order_is_carried_out_here_once_and_handed_to_the_others() -> None:
    broker, other = connected(), connected()
    order = {"end": {"user": "7"}}
    done = outcome(broker.control(order))
    ((text, answer),) = broker.links[1].published
    answer.callback(None)
    broker.obey_json(text)
    other.obey_json(text)
    assert (broker.orders, done) == ([order], [3])
    assert [each["end"] for each in other.orders] == [{"user": "7"}]


def test_a_message_that_was_under_way_before_the_own_order_to_clear_is_cleared() -> None:
    class Obedient(FakeBroker):
        obey = SubscribingBroker.obey  # type: ignore[assignment]

    broker = Obedient()
    broker.connect()
    done = outcome(broker.control({"clear": {"channel": ["a"]}}))
    ((text, answer),) = broker.links[1].published
    answer.callback(None)
    broker.deliver(["a"], "before", keep=True)
    broker.deliver(["b"], "of another channel", keep=True)
    broker.obey_json(text)
    assert done == [0]
    assert broker.hub.states.get("a") is None
    assert broker.hub.states.get("b") is not None
    broker.deliver(["a"], "after", keep=True)
    assert broker.hub.states.get("a") is not None


@pytest.mark.parametrize("order", [b"", b"no JSON", b"[]", b"[" * 100_000, b"\xff"])
def test_an_order_that_is_none_does_no_harm(log: list[str], order: bytes) -> None:
    broker = connected()
    for _ in range(3):
        broker.obey_json(order)
    assert broker.orders == []
    assert log[1:] == ["ignored an order from Fake at 1:2: it is not a JSON object"]


def test_an_attempt_that_is_under_way_at_the_end_is_the_last(log: list[str]) -> None:
    """Twisted's endpoints fail with an error of their own when they are cancelled."""
    broker = FakeBroker()
    broker.reachable = lambda: Deferred(lambda it: it.errback(ConnectingCancelledError(None)))
    broker.connect()
    outcome(broker.disconnect())
    broker.clock.pump([1] * 60)
    assert broker.attempts == 1
    assert log == []


def test_at_the_end_all_connections_are_left_and_none_is_made(log: list[str]) -> None:
    broker = connected()
    outcome(broker.publish(["a"], "x"))
    gone = outcome(broker.disconnect())
    assert gone == [None]
    assert all(link.lost for link in broker.links)
    broker.clock.pump([1] * 60)
    assert len(broker.links) == 2
    assert not any(line.startswith("lost") for line in log)


def test_a_message_that_is_larger_than_a_posted_one_is_refused() -> None:
    broker = connected(**{"max-body": 10})
    with pytest.raises(Refusal) as refusal:
        broker.publish_all([publication("a", "x" * 11)])
    assert refusal.value.status == 413


def only_to_receive(broker: FakeBroker) -> None:
    """One connection may be made, and a second one is refused, as by a limit of connections."""

    def reachable() -> FakeLink:
        if any(link.lost is None for link in broker.links):
            raise ValueError("connection limit (1) is reached")
        return FakeLink()

    broker.reachable = reachable


def test_a_second_connection_that_is_refused_is_a_problem_and_logged_without_publishers(
    log: list[str],
) -> None:
    broker = FakeBroker()
    only_to_receive(broker)
    broker.connect()
    broker.clock.pump([1] * 60)
    assert broker.problem == "messages cannot be published: connection limit (1) is reached"
    assert len([line for line in log if "could not publish to Fake at 1:2: connection limit" in line]) == 1
    broker.reachable = FakeLink
    broker.clock.pump([1] * 6)
    assert broker.available


def test_a_second_connection_that_hangs_is_a_problem(log: list[str]) -> None:
    broker = connected()
    broker.reachable = Deferred
    broker.clock.pump([1] * 16)
    assert broker.problem == "messages cannot be published: no answer in time"
    broker.reachable = FakeLink
    broker.clock.pump([1] * 16)
    assert broker.available


def test_an_outage_that_is_over_is_no_problem() -> None:
    broker = connected()
    broker.reachable = refused
    outcome(broker.publish(["a"], "x"))
    broker.links[0].lose()
    broker.reachable = FakeLink
    broker.clock.pump([0.5] * 4)
    assert broker.available
