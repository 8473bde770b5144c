"""One GET: how the body of an answer is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from cyclone_sse.access.http_client import MAX_ANSWER, Answer, HttpClient, TooLong


class FakeAgent:
    """Answers with a body that the test feeds."""

    def __init__(self) -> None:
        self.lost = 0
        self.asked: list[Any] = []

    def request(self, *asked: Any) -> Deferred[Any]:
        self.asked.append(asked)
        d: Deferred[Any] = Deferred()
        d.callback(
            SimpleNamespace(
                code=200, headers=Headers({"Content-Type": ["text/plain"]}), deliverBody=self._deliver
            )
        )
        return d

    def _deliver(self, body: Any) -> None:
        self.body = body
        body.makeConnection(self)

    def loseConnection(self) -> None:
        self.lost += 1


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


def fetch(agent: FakeAgent) -> tuple[Deferred[Answer], list[Any]]:
    fetcher = HttpClient.__new__(HttpClient)
    fetcher._agent = agent
    d = Deferred.fromCoroutine(fetcher.get("http://x/?a", [("Cookie", "é")]))
    results: list[Any] = []
    d.addBoth(results.append)
    return d, results


@pytest.mark.parametrize("end", [ResponseDone(), PotentialDataLoss()])
def test_a_body_in_pieces(agent: FakeAgent, end: Exception) -> None:
    _, results = fetch(agent)
    for piece in (b"one", b"two"):
        agent.body.dataReceived(piece)
    agent.body.connectionLost(Failure(end))
    assert results == [Answer(200, "text/plain", None, b"onetwo")]
    method, url, headers = agent.asked[0]
    assert (method, url, headers.getRawHeaders(b"Cookie")) == (b"GET", b"http://x/?a", [b"\xe9"])


def test_a_body_that_breaks_off(agent: FakeAgent) -> None:
    _, results = fetch(agent)
    agent.body.connectionLost(Failure(ConnectionLost()))
    assert results[0].check(ConnectionLost)


def test_a_body_without_end_is_cut_off(agent: FakeAgent) -> None:
    _, results = fetch(agent)
    agent.body.dataReceived(b"x" * (MAX_ANSWER + 1))
    assert agent.lost
    agent.body.connectionLost(Failure(ResponseDone()))
    assert results[0].check(TooLong)


def test_who_no_longer_wants_it_closes_the_connection(agent: FakeAgent) -> None:
    d, results = fetch(agent)
    d.cancel()
    assert agent.lost == 1
    agent.body.connectionLost(Failure(ConnectionLost()))
    assert len(results) == 1
