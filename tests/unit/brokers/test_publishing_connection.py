"""The connection for publishing: made when it is needed, bounded, and honest about what may be out."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import NotPublished
from cyclone_sse.brokers.publishing_connection import PENDING_MAX, PUBLISH_WAIT
from cyclone_sse.brokers.upstream import LOG_IN_WAIT
from cyclone_sse.delivery.publication import Publication, publication
from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.log_limit import LOG_INTERVAL
from tests.unit.brokers.links import FakeLink, connected, outcome, refused


def test_publishing_has_a_connection_of_its_own_and_waits_for_the_answer() -> None:
    broker = connected()
    done = outcome(broker.publish(["a", "b"], "é"))
    assert len(broker.links) == 2
    ((publications, answer),) = broker.links[1].published
    assert (publications, done) == ([publication(["a", "b"], "é")], [])
    answer.callback(["the id"])
    assert done == [["the id"]]
    outcome(broker.publish(["a"], "x"))
    assert len(broker.links) == 2
    broker.links[1].lose()
    outcome(broker.publish(["a"], "x"))
    assert len(broker.links) == 3


def test_the_reason_why_nothing_can_be_handed_over_is_for_the_log_alone(log: list[str]) -> None:
    broker = connected()
    broker.reachable = refused
    (error,) = outcome(broker.publish(["a"], "x"))
    assert isinstance(error, Unavailable)
    assert str(error) == "the broker is away"
    broker.reachable = FakeLink
    lost = outcome(broker.publish(["a"], "x"))
    broker.links[-1].lose()
    assert isinstance(lost[0], Unavailable)
    lines = [line for line in log if "could not publish" in line]
    assert len(lines) == 1  # not one for each POST
    assert lines[0].startswith("could not publish to Fake at 1:2: Connection was refused")
    broker.reachable = refused
    broker.clock.advance(LOG_INTERVAL)
    outcome(broker.publish(["a"], "x"))
    assert len([line for line in log if "could not publish" in line]) == 2


def test_a_publisher_at_fault_is_told_so() -> None:
    broker = connected()
    failed = outcome(broker.publish(["a"], "x"))
    broker.links[-1].published[0][1].errback(Refusal(400, "too long"))
    assert str(failed[0]) == "too long"


@pytest.mark.parametrize("stuck", ["connecting", "log-in", "answer"])
def test_publishing_does_not_wait_for_ever(stuck: str) -> None:
    broker = connected()
    if stuck == "connecting":
        broker.reachable = Deferred
    elif stuck == "log-in":
        broker.reachable = lambda: FakeLink(prompt=False)
    fates = [outcome(broker.publish(["a"], "x")) for _ in range(100)]
    broker.clock.advance(PUBLISH_WAIT)
    assert {type(error) for (error,) in fates} == {Unavailable}
    broker.reachable = FakeLink
    if stuck != "answer":
        assert len(broker.links) + (stuck == "connecting") == 2  # one attempt for all of them
        broker.clock.advance(LOG_IN_WAIT - PUBLISH_WAIT)
    done = outcome(broker.publish(["a"], "x"))
    broker.links[-1].published[0][1].callback([None])
    assert done == [[None]]


def test_what_waits_for_the_upstream_is_bounded(log: list[str]) -> None:
    broker = connected(**{"max-body": PENDING_MAX})
    waiting = [outcome(broker.publish(["a"], "x" * (PENDING_MAX // 4))) for _ in range(20)]
    refused = [each[0] for each in waiting if each]
    assert len(refused) >= 16
    assert {error.published for error in refused} == {False}
    assert len([line for line in log if "too many messages are waiting" in line]) == 1
    for _, answer in broker.links[1].published:
        answer.callback([None])
    assert outcome(broker.publish(["a"], "x" * (PENDING_MAX // 4))) == []  # there is room again


@pytest.mark.parametrize(
    ("stuck", "published"),
    [("connecting", False), ("log-in", False), ("answer", "unknown"), ("blocked", False), ("refused", False)],
)
def test_a_failure_says_whether_a_message_may_be_out(stuck: str, published: object) -> None:
    broker = connected()
    ways: dict[str, Any] = {"connecting": Deferred, "log-in": lambda: FakeLink(prompt=False)}
    broker.reachable = ways.get(stuck, FakeLink)
    if stuck == "blocked":
        outcome(broker.publish(["a"], "x"))
        broker.links[1].blocked = "low on memory"
    fate = outcome(broker.publish(["a"], "x"))
    if stuck == "refused":
        broker.links[1].published[0][1].errback(NotPublished("OOM"))
    broker.clock.advance(PUBLISH_WAIT)
    (error,) = fate
    assert isinstance(error, Unavailable)
    assert error.published == published


class PublishingInCoroutine(FakeLink):
    async def publish(self, publications: Any) -> Any:  # type: ignore[override]
        return await super().publish(publications)


@pytest.mark.parametrize("stuck", ["connecting", "answer", "lost", "coroutine"])
def test_a_failure_keeps_no_body(stuck: str) -> None:
    broker = connected()
    if stuck == "connecting":
        broker.reachable = refused
    elif stuck == "coroutine":
        broker.reachable = PublishingInCoroutine
    body = b"x" * 1000
    references = sys.getrefcount(body)
    failures: list[Failure] = []
    gc.disable()  # what is garbage in a cycle counts as kept
    try:
        broker.publish_all([Publication(("a",), body)]).addErrback(failures.append)
        if stuck == "lost":
            broker.links[1].lose()
        broker.clock.advance(PUBLISH_WAIT)
        for link in broker.links:
            link.published.clear()
        assert len(failures) == 1
        assert sys.getrefcount(body) == references
    finally:
        gc.enable()


class PromptLink(FakeLink):
    def publish(self, publications: Any) -> Deferred[Any]:
        super().publish(publications)
        return succeed([None])


def test_many_publishers_do_not_cut_short_the_attempt_to_connect() -> None:
    broker = connected()
    broker.reachable = Deferred  # it hangs

    def publish_for(seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            outcome(broker.publish(["a"], "x"))
            broker.clock.advance(0.1)

    def slow() -> FakeLink:
        link = PromptLink(prompt=False)
        broker.clock.callLater(0.5, link.login.callback, None)
        return link

    publish_for(PUBLISH_WAIT + 1)
    broker.reachable = slow
    publish_for(LOG_IN_WAIT)
    (link,) = broker.links[1:]
    assert len(link.published) > 10


def test_a_publisher_that_no_longer_waits_is_not_published_when_the_connection_is_made() -> None:
    broker = connected()
    broker.reachable = lambda: FakeLink(prompt=False)
    first = outcome(broker.publish(["a"], "1"))
    broker.clock.advance(PUBLISH_WAIT - 1)
    second = outcome(broker.publish(["a"], "2"))
    broker.clock.advance(1)
    broker.links[1].login.callback(None)
    (link,) = broker.links[1:]
    assert [publications[0].text for publications, _ in link.published] == ["2"]
    assert (first[0].published, second) == (False, [])


def test_an_attempt_to_connect_ends_when_the_server_stops() -> None:
    broker = connected()
    broker.reachable = lambda: FakeLink(prompt=False)
    fate = outcome(broker.publish(["a"], "x"))
    broker.disconnect()
    assert broker.links[1].aborted
    assert [type(error) for error in fate] == [Unavailable]
    assert isinstance(outcome(broker.publish(["a"], "x"))[0], Unavailable)
    assert len(broker.links) == 2
