"""Asking the application: with what, how often at a time, and what the log says."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from cyclone_sse.access import auth_url
from cyclone_sse.access.answers import HttpAnswer
from cyclone_sse.access.auth_url import AuthUrl
from cyclone_sse.access.grant import Grant
from cyclone_sse.access.http_client import ANSWER_TIMEOUT
from cyclone_sse.errors import Refusal
from cyclone_sse.log_limit import MAX_KINDS
from tests.unit.fakes import headers_of

NOW = 1_000_000.0


class FakeFetcher:
    """Notes each question; the test answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Deferred[HttpAnswer]]] = []
        self.cancelled = 0

    async def get(self, query: str, fields: list[tuple[str, str]]) -> HttpAnswer:
        answer: Deferred[HttpAnswer] = Deferred()
        self.asked.append((query, dict(fields), answer))
        try:
            return await answer
        except CancelledError:
            self.cancelled += 1
            raise

    def answer(self, status: int = 200, body: bytes = b"") -> None:
        """Answer the latest question."""
        self.asked[-1][2].callback(HttpAnswer(status, body))


class Site:
    """An application to ask, and clients."""

    def __init__(self, concurrency: int = 50, host: str | None = None) -> None:
        self.clock = Clock()
        self.fetcher = FakeFetcher()
        self.application = AuthUrl(
            "https://www.example/sse/auth",
            concurrency,
            host=host,
            client=self.fetcher,  # type: ignore[arg-type]
            clock=lambda: NOW,
            reactor=self.clock,
        )

    def ask(self, *channels: str, address: str = "192.0.2.7", **headers: str) -> Deferred[Grant]:
        caller = SimpleNamespace(
            headers=headers_of({name.replace("_", "-"): value for name, value in headers.items()}),
            remote_ip=address,
            public_host="push.example",
            public_scheme="https",
        )
        return self.application.ask(caller, channels or ("a", "b"))


def result(d: Deferred[Any]) -> Any:
    """What has become of it: a grant, a failure, or None if it waits."""
    results: list[Any] = []
    d.addBoth(results.append)
    return results[0] if results else None


def refusal(d: Deferred[Any]) -> Refusal:
    value = result(d).value
    assert isinstance(value, Refusal)
    return value


def test_it_is_asked_with_what_tells_who_the_client_is() -> None:
    site = Site()
    headers = {
        "Cookie": "sessionid=é",
        "Authorization": "Token x",
        "Origin": "https://x.example",
        "User-Agent": "Mozilla/5.0",
    }
    site.ask("a b", "ü", **headers, Host="push.example", X_Forwarded_Host="evil.example")
    query, sent, _ = site.fetcher.asked[0]
    assert parse_qsl(query) == [("channels", "a b"), ("channels", "ü")]
    assert {name: sent[name] for name in headers} == headers
    assert sent["X-Forwarded-For"] == "192.0.2.7"
    assert (sent["X-Forwarded-Host"], sent["X-Forwarded-Proto"]) == ("push.example", "https")
    assert sent["Accept"] == "application/json"
    assert "Host" not in sent


def test_what_the_client_does_not_send_is_not_invented() -> None:
    site = Site()
    site.ask("a")
    _, sent, _ = site.fetcher.asked[0]
    assert sent == {
        "Accept": "application/json",
        "User-Agent": "cyclone-sse",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Host": "push.example",
        "X-Forwarded-Proto": "https",
    }


def test_a_unix_socket_is_no_address() -> None:
    site = Site()
    site.ask("a", address="unix:/run/sse.sock")
    assert "X-Forwarded-For" not in site.fetcher.asked[0][1]


def test_the_host_can_be_given() -> None:
    site = Site(host="www.example")
    site.ask("a")
    assert site.fetcher.asked[0][1]["Host"] == "www.example"


def test_a_yes_and_a_no() -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(200, b'{"channels": ["a"], "expires": 60}')
    assert result(asked) == Grant(None, ("a",), (), NOW + 60, exact=True)
    asked = site.ask()
    site.fetcher.answer(403)
    assert refusal(asked).status == 403


@pytest.mark.parametrize(("status", "body"), [(500, b""), (302, b""), (200, b"<html>"), (200, b"false")])
def test_without_a_decision_the_client_is_told_to_try_again(status: int, body: bytes) -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(status, body)
    no = refusal(asked)
    assert no.status == 503
    assert int(no.headers["Retry-After"]) > 0


def test_an_application_that_is_down_or_hangs() -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.asked[-1][2].errback(ConnectionRefusedError())
    assert refusal(asked).status == 503
    asked = site.ask()
    site.clock.advance(ANSWER_TIMEOUT - 0.1)
    assert result(asked) is None
    site.clock.advance(0.2)
    assert site.fetcher.cancelled == 1
    assert site.application._turns.tokens == 50


def test_only_so_many_are_asked_at_a_time_and_in_their_order() -> None:
    site = Site(concurrency=2)
    asked = [site.ask(str(number)) for number in range(5)]
    assert len(site.fetcher.asked) == 2
    site.fetcher.asked[1][2].callback(HttpAnswer(204))
    assert result(asked[1]).subscribe == ("1",)
    assert [query for query, _, _ in site.fetcher.asked] == [
        "channels=0",
        "channels=1",
        "channels=2",
    ]


def test_a_client_that_waits_too_long_for_a_turn_is_told_to_try_again() -> None:
    site = Site(concurrency=1)
    site.ask()
    late = site.ask()
    site.clock.advance(ANSWER_TIMEOUT - 1)
    much_later = site.ask()
    # The first is given up after its time; the second then has its turn, and all of its own time.
    site.clock.advance(1)
    assert len(site.fetcher.asked) == 2
    site.clock.advance(ANSWER_TIMEOUT)
    assert refusal(late).status == 503
    assert len(site.fetcher.asked) == 3
    hopeless = [site.ask() for _ in range(3)]
    site.fetcher.asked[-1][2].callback(HttpAnswer(204))
    assert result(much_later).subscribe == ("a", "b")
    site.clock.pump([1.0] * 10)
    site.clock.advance(auth_url.TURN_PATIENCE)
    assert {refusal(one).status for one in hopeless} == {503}
    assert len(site.fetcher.asked) <= 5


def test_a_client_that_leaves_frees_the_turn() -> None:
    site = Site(concurrency=1)
    first, second, third = site.ask("1"), site.ask("2"), site.ask("3")
    for left in (second, first):
        left.addErrback(lambda failure: failure.trap(CancelledError) and None)
        left.cancel()
    assert [query for query, _, _ in site.fetcher.asked] == ["channels=1", "channels=3"]
    site.fetcher.answer(204)
    assert result(third).subscribe == ("3",)


def test_the_log_says_it_once_a_minute_and_tells_no_secrets(lines: list[str]) -> None:
    site = Site()
    for wait in (0, 30, 31):
        site.clock.advance(wait)
        asked = site.ask(Cookie="sessionid=secret")
        site.fetcher.answer(500, json.dumps({"x": "secret"}).encode())
        refusal(asked)
    assert lines == ["the application at --auth-url answered 500: subscriptions are refused"] * 2


def test_the_log_says_each_new_trouble_at_once(lines: list[str]) -> None:
    site = Site()
    for status in [400, 500, 400, *range(600, 700)]:
        asked = site.ask()
        site.fetcher.answer(status)
        refusal(asked)
    assert "ALLOWED_HOSTS" in lines[0]
    assert "500" in lines[1]
    assert len(lines) == MAX_KINDS, "the limit of kinds that are counted apart"
    site.clock.advance(60)
    asked = site.ask()
    site.fetcher.answer(500)
    refusal(asked)
    assert len(lines) == MAX_KINDS + 1


def test_a_client_that_leaves_is_no_failure_of_the_application() -> None:
    site = Site()
    asked = site.ask()
    asked.addErrback(lambda _: None)
    asked.cancel()
    figures = site.application.figures
    assert (figures.under_way, figures.answers) == (0, {"left": 1})


def test_figures() -> None:
    site = Site()
    asked = [site.ask() for _ in range(3)]
    assert site.application.figures.under_way == 3
    site.fetcher.answer(204)
    site.fetcher.asked[0][2].errback(ConnectionRefusedError())
    site.clock.advance(1)
    site.fetcher.asked[1][2].callback(HttpAnswer(403))
    assert [result(one) is not None for one in asked] == [True] * 3
    figures = site.application.figures
    assert (figures.under_way, figures.answers) == (0, {"204": 1, "none": 1, "403": 1})
    assert figures.seconds.total == 1
