"""Asking the application: what its answers mean, and that it is not drowned."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

from cyclone_sse.access import auth_url
from cyclone_sse.access.auth_url import AuthUrl
from cyclone_sse.access.grant import Grant
from cyclone_sse.access.http_client import Answer
from cyclone_sse.errors import Refusal

NOW = 1_000_000.0


class FakeFetcher:
    """Notes each question; the test answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Deferred[Answer]]] = []
        self.cancelled = 0

    async def get(self, url: str, fields: list[tuple[str, str]]) -> Answer:
        answer: Deferred[Answer] = Deferred()
        self.asked.append((url, dict(fields), answer))
        try:
            return await answer
        except CancelledError:
            self.cancelled += 1
            raise

    def answer(self, status: int = 200, body: bytes = b"", kind: str = "application/json") -> None:
        """Answer the latest question."""
        self.asked[-1][2].callback(Answer(status, kind if body else "", None, body))


class Site:
    """An application to ask, and somebody who wants in."""

    def __init__(self, concurrency: int = 50, url: str = "https://www.example/sse/auth") -> None:
        self.clock = Clock()
        self.fetcher = FakeFetcher()
        self.application = AuthUrl(
            url,
            concurrency,
            self.fetcher,  # type: ignore[arg-type]
            lambda: NOW,
            self.clock,
        )

    def ask(self, *channels: str, **headers: str) -> Deferred[Grant]:
        caller = SimpleNamespace(headers=headers, remote_ip="192.0.2.7")
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


@pytest.mark.parametrize("url", ["https://www.example/sse/auth", "https://www.example/sse/auth?site=1"])
def test_it_is_asked_with_what_tells_who_the_client_is(url: str) -> None:
    site = Site(url=url)
    headers = {"Cookie": "sessionid=é", "Authorization": "Token x", "Origin": "https://x.example"}
    site.ask("a b", "ü", **headers, Host="push.example", Accept="text/event-stream")
    asked, sent, _ = site.fetcher.asked[0]
    assert asked.startswith(url)
    assert [pair for pair in parse_qsl(urlsplit(asked).query) if pair[0] == "channels"] == [
        ("channels", "a b"),
        ("channels", "ü"),
    ]
    assert {name: sent[name] for name in headers} == headers
    assert sent["X-Forwarded-For"] == "192.0.2.7"
    assert sent["Accept"] == "application/json"
    assert "Host" not in sent


@pytest.mark.parametrize(
    ("body", "kind", "grant"),
    [
        (b"", "", Grant(None, ("a", "b"))),
        (b"welcome", "text/html", Grant(None, ("a", "b"))),
        (b"{}", "application/json", Grant(None, ("a", "b"))),
        (b'{"channels": ["a"], "more": 1}', "application/json", Grant(None, ("a",))),
        (b'{"channels": []}', "application/json", Grant(None, ())),
        (b'{"user": "42", "expires": 60}', "application/json", Grant("42", ("a", "b"), (), NOW + 60)),
        (b'{"user": 42, "expires": null}', "application/json; charset=utf-8", Grant("42", ("a", "b"))),
        (b' {"channels": ["a"]}', "text/html", Grant(None, ("a",))),  # PHP, when nobody says otherwise
    ],
)
def test_an_answer_lets_in_and_may_narrow(body: bytes, kind: str, grant: Grant) -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(200, body, kind)
    assert result(asked) == grant


def test_204_lets_in() -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(204)
    assert result(asked).may_subscribe("b")


def test_a_no_is_passed_on() -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.asked[-1][2].callback(Answer(401, "text/html", 'Session realm="x"', b"log in"))
    no = refusal(asked)
    assert no.status == 401
    assert no.headers["WWW-Authenticate"] == 'Session realm="x"'
    asked = site.ask()
    site.fetcher.answer(401)
    assert refusal(asked).headers["WWW-Authenticate"] == "Bearer"
    asked = site.ask("room-1")
    site.fetcher.answer(403)
    no = refusal(asked)
    assert no.status == 403
    assert "room-1" in no.reason


@pytest.mark.parametrize("status", [301, 302, 304, 400, 404, 429, 500, 502, 503])
def test_any_other_status_decides_nothing(status: int) -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(status, b"x", "text/html")
    no = refusal(asked)
    assert no.status == 503
    assert int(no.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "answer",
    [
        *[b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b'{"channels": "a"}', b'{"channels": null}'],
        *[b'{"channels": [1]}', b'{"user": []}', b'{"user": true}', b'{"user": 1.5}', b'{"expires": "60"}'],
        *[b'{"expires": 0}', b'{"expires": -1}', b'{"expires": 1e999}', b'{"expires": true}', b"[" * 60000],
    ],
)
def test_nonsense_decides_nothing(answer: bytes) -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.answer(200, answer)
    assert refusal(asked).status == 503


def test_an_application_that_is_down_or_hangs() -> None:
    site = Site()
    asked = site.ask()
    site.fetcher.asked[-1][2].errback(ConnectionRefusedError())
    assert refusal(asked).status == 503
    asked = site.ask()
    site.clock.advance(auth_url.PATIENCE - 0.1)
    assert result(asked) is None
    site.clock.advance(0.2)
    assert site.fetcher.cancelled == 1
    assert site.application._turns.tokens == 50


def test_only_so_many_are_asked_at_a_time_and_in_their_order() -> None:
    site = Site(concurrency=2)
    asked = [site.ask(str(number)) for number in range(5)]
    assert len(site.fetcher.asked) == 2
    site.fetcher.asked[1][2].callback(Answer(204, "", None, b""))
    assert result(asked[1]).subscribe == ("1",)
    assert [urlsplit(url).query for url, _, _ in site.fetcher.asked] == [
        "channels=0",
        "channels=1",
        "channels=2",
    ]


def test_who_waits_too_long_for_a_turn_is_told_to_come_again() -> None:
    site = Site(concurrency=1)
    site.ask()
    late = site.ask()
    site.clock.advance(auth_url.PATIENCE - 1)
    much_later = site.ask()
    # The first is given up after its time; the second then has its turn, and all of its own time.
    site.clock.advance(1)
    assert len(site.fetcher.asked) == 2
    site.clock.advance(auth_url.PATIENCE)
    assert refusal(late).status == 503
    assert len(site.fetcher.asked) == 3
    hopeless = [site.ask() for _ in range(3)]
    site.fetcher.asked[-1][2].callback(Answer(204, "", None, b""))
    assert result(much_later).subscribe == ("a", "b")
    site.clock.pump([1.0] * 10)
    site.clock.advance(auth_url.TURN_PATIENCE)
    assert {refusal(one).status for one in hopeless} == {503}
    assert len(site.fetcher.asked) <= 5


def test_who_leaves_frees_the_turn() -> None:
    site = Site(concurrency=1)
    first, second, third = site.ask("1"), site.ask("2"), site.ask("3")
    for left in (second, first):
        left.addErrback(lambda failure: failure.trap(CancelledError) and None)
        left.cancel()
    assert [urlsplit(url).query for url, _, _ in site.fetcher.asked] == ["channels=1", "channels=3"]
    site.fetcher.answer(204)
    assert result(third).subscribe == ("3",)


def test_the_log_says_it_once_a_minute_and_tells_no_secrets() -> None:
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] is LogLevel.error:
            lines.append(event["log_format"].format(**event))

    site = Site()
    globalLogPublisher.addObserver(observe)
    try:
        for wait in (0, 30, 31):
            site.clock.advance(wait)
            asked = site.ask(Cookie="sessionid=secret")
            site.fetcher.answer(500, json.dumps({"x": "secret"}).encode())
            refusal(asked)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert lines == ["the application at --auth-url answered 500: subscriptions are refused"] * 2
