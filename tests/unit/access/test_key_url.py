"""Keys by URL: when they are fetched, and what a URL that lies can do."""

from __future__ import annotations

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError

from cyclone_sse.access.answers import HttpAnswer
from cyclone_sse.access.http_client import ANSWER_TIMEOUT
from cyclone_sse.access.key_url import FETCH_RETRY, REFRESH, UNKNOWN_KEY, VERIFIED_AT_ONCE, KeyUrl
from tests.unit.access.keys import jwk
from tests.unit.fakes import TurnClock

ONE = json.dumps({"keys": [jwk("p256", kid="1")]}).encode()
TWO = json.dumps({"keys": [jwk("p256", kid="2")]}).encode()


class FakeClient:
    """Notes each request; the test answers it."""

    def __init__(self) -> None:
        self.requests: list[Deferred[HttpAnswer]] = []

    async def get(self, query: str, fields: list[tuple[str, str]]) -> HttpAnswer:
        self.requests.append(Deferred())
        return await self.requests[-1]


class Site:
    """A URL of keys that is fetched."""

    def __init__(self) -> None:
        self.clock = TurnClock()
        self.client = FakeClient()
        self.keys = KeyUrl("https://www.example/jwks", self.clock, self.client)  # type: ignore[arg-type]

    def answer(self, body: bytes, status: int = 200) -> None:
        self.client.requests[-1].callback(HttpAnswer(status, body))

    @property
    def kids(self) -> list[str | None]:
        return [key.kid for key in self.keys.keys]

    @property
    def count(self) -> int:
        return len(self.client.requests)


def test_keys_are_fetched_at_the_start_and_every_ten_minutes() -> None:
    site = Site()
    site.keys.start()
    site.answer(ONE)
    assert site.kids == ["1"]
    site.clock.advance(REFRESH - 1)
    assert site.count == 1
    site.clock.advance(1)
    site.answer(TWO)
    assert site.kids == ["2"]
    site.keys.stop()
    site.clock.advance(REFRESH)
    assert site.count == 2
    assert site.clock.getDelayedCalls() == []


def test_an_unknown_key_is_fetched_once_a_minute_at_most() -> None:
    site = Site()
    site.keys.start()
    site.answer(ONE)
    waiting = [site.keys.refresh() for _ in range(1000)]
    assert site.count == 2
    assert all(waiting)
    site.answer(TWO)
    site.clock.advance(0)
    assert all(d is not None and d.called for d in waiting)
    assert site.keys.refresh() is None
    site.clock.advance(UNKNOWN_KEY)
    assert site.keys.refresh() is not None


def test_a_client_that_leaves_is_no_longer_waited_for() -> None:
    site = Site()
    waiting, other = site.keys.refresh(), site.keys.refresh()
    assert waiting is not None
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    site.answer(ONE)
    site.clock.advance(0)
    assert other is not None
    assert other.called


def test_the_tokens_of_many_clients_that_wait_are_checked_in_several_turns() -> None:
    site = Site()
    waiting = [site.keys.refresh() for _ in range(2 * VERIFIED_AT_ONCE)]
    last = waiting[-1]
    assert last is not None
    site.answer(ONE)
    site.clock.turn()
    assert [d is not None and d.called for d in waiting].count(True) == VERIFIED_AT_ONCE
    last.addErrback(lambda _: None)
    last.cancel()  # its client leaves while the keys are there
    site.clock.turn()
    assert all(d is not None and d.called for d in waiting)


def test_without_a_key_it_is_tried_more_often(lines: list[str]) -> None:
    site = Site()
    site.keys.start()
    site.client.requests[-1].errback(ConnectionRefusedError())
    site.clock.advance(FETCH_RETRY)
    assert site.count == 2
    site.clock.advance(ANSWER_TIMEOUT)
    assert site.kids == []
    assert site.keys.refresh() is not None
    assert site.count == 3
    site.client.requests[-1].errback(ConnectionRefusedError())
    assert site.keys.refresh() is None
    site.clock.advance(FETCH_RETRY)
    assert site.count == 4
    site.answer(ONE)
    assert site.kids == ["1"]
    assert "no token is accepted" in lines[0]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, ONE),
        (301, b""),
        (204, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'"keys"'),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
        (200, json.dumps({"keys": [jwk("rsa-1024")]}).encode()),
        (200, b"[" * 60_000),
    ],
)
def test_the_last_good_keys_stay(lines: list[str], status: int, body: bytes) -> None:
    site = Site()
    site.keys.start()
    site.answer(ONE)
    for _ in range(3):
        site.clock.advance(REFRESH)
        site.answer(body, status)
        assert site.kids == ["1"]
    assert len(lines) == 1, "the same trouble is logged once"
    assert "the last ones stay in use" in lines[0]
    site.clock.advance(REFRESH)
    site.answer(TWO)
    assert site.kids == ["2"]


def test_a_reload_fetches_them_too() -> None:
    site = Site()
    site.keys.reload()
    assert site.count == 0, "it has not been started"
    site.keys.start()
    site.keys.reload()
    assert site.count == 1, "the first is under way"
    site.answer(ONE)
    site.keys.reload()
    site.answer(TWO)
    assert site.kids == ["2"]


def test_stop_ends_a_request_under_way() -> None:
    site = Site()
    site.keys.start()
    site.keys.stop()
    assert site.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (None, "the URL has not answered in 5 seconds"),
        (ConnectionRefusedError(), "the URL cannot be reached: Connection was refused by other side"),
    ],
)
def test_a_failure_is_explained_in_the_log(lines: list[str], error: Exception | None, problem: str) -> None:
    site = Site()
    site.keys.start()
    if error is None:
        site.clock.advance(ANSWER_TIMEOUT)
    else:
        site.client.requests[-1].errback(error)
    assert lines == [
        f"the keys at --jwt-keys=https://www.example/jwks cannot be read ({problem}): no token is accepted"
    ]


def test_the_end_of_a_request_at_the_stop_is_not_logged(lines: list[str]) -> None:
    site = Site()
    site.keys.start()
    site.keys.stop()
    assert lines == []
