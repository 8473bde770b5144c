"""Which members the application is notified of, and in which order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from cyclone_sse import presence_url
from cyclone_sse.access.answers import HttpAnswer
from cyclone_sse.access.http_client import ANSWER_TIMEOUT
from cyclone_sse.daemon.probes import collected_errors
from cyclone_sse.presence_url import (
    MAX_CHANGES,
    MAX_PAUSE,
    MAX_WAITING_CHANGES,
    PRESENCE_INTERVAL,
    PresenceUrl,
)


class FakeClient:
    """Notes each request; the test answers it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.fields: dict[str, str] = {}
        self.answers: list[Deferred[HttpAnswer]] = []

    async def post(self, body: bytes, fields: list[tuple[str, str]]) -> HttpAnswer:
        self.bodies.append(json.loads(body))
        self.fields = dict(fields)
        self.answers.append(Deferred())
        return await self.answers[-1]

    def answer(self, status: int = 204) -> None:
        self.answers[-1].callback(HttpAnswer(status))


class Site:
    """An application that is notified."""

    def __init__(self, key: str | None = "kéy") -> None:
        self.clock = Clock()
        self.client = FakeClient()
        self.url = PresenceUrl("http://x/", lambda: key, self.clock, self.client)  # type: ignore[arg-type]


def test_changes_of_a_second_are_one_request() -> None:
    site = Site()
    site.url.add("room", {"42": '{"name":"Ann"}', "43": None}, [])
    site.url.add("other", {}, ["7"])
    assert site.client.bodies == []
    site.clock.advance(PRESENCE_INTERVAL)
    assert site.client.bodies == [
        {
            "joined": [
                {"channel": "room", "user": "42", "info": {"name": "Ann"}},
                {"channel": "room", "user": "43", "info": None},
            ],
            "left": [{"channel": "other", "user": "7"}],
        }
    ]
    assert site.client.fields["Authorization"].encode("latin-1") == "Bearer kéy".encode()
    site.client.answer()
    assert (len(site.url), site.clock.getDelayedCalls()) == (0, [])


def test_without_a_key_there_is_no_authorization() -> None:
    site = Site(None)
    site.url.add("room", {"42": None}, [])
    site.clock.advance(PRESENCE_INTERVAL)
    assert "Authorization" not in site.client.fields


def test_a_user_who_leaves_and_joins_is_two_requests() -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    site.url.add("room", {}, ["42"])
    site.url.add("room", {"42": None}, [])
    for _ in range(3):
        site.clock.advance(PRESENCE_INTERVAL)
        site.client.answer()
    assert [[bool(body["joined"]), bool(body["left"])] for body in site.client.bodies] == [
        [True, False],
        [False, True],
        [True, False],
    ]


def test_a_failed_request_is_repeated_with_growing_pauses() -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    site.clock.advance(PRESENCE_INTERVAL)
    pauses = []
    for number in range(8):
        if number % 3 == 0:
            site.client.answer(500)
        elif number % 3 == 1:
            site.client.answers[-1].errback(ConnectionRefusedError())
        else:
            site.clock.advance(ANSWER_TIMEOUT)
        (call,) = site.clock.getDelayedCalls()
        pauses.append(call.getTime() - site.clock.seconds())
        site.clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, MAX_PAUSE, MAX_PAUSE, MAX_PAUSE]
    assert all(body == site.client.bodies[0] for body in site.client.bodies)
    site.client.answer()
    assert len(site.url) == 0


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (None, "has not answered in 5 seconds"),
        (ConnectionRefusedError(), "cannot be reached: Connection was refused by other side"),
    ],
)
def test_a_failure_is_explained_in_the_log(error: Exception | None, problem: str) -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    site.clock.advance(PRESENCE_INTERVAL)
    with collected_errors() as lines:
        if error is None:
            site.clock.advance(ANSWER_TIMEOUT)
        else:
            site.client.answers[-1].errback(error)
    assert lines == [f"the application at --presence-url {problem}: trying again"]


def test_what_waits_is_bounded_and_the_oldest_goes_first() -> None:
    site = Site()
    site.url.add("room", {"first": None}, [])
    site.clock.advance(PRESENCE_INTERVAL)
    for number in range(MAX_WAITING_CHANGES):
        site.url.add("room", {str(number): None}, [])
    assert len(site.url) == MAX_WAITING_CHANGES
    site.client.answer()
    assert len(site.url) == MAX_WAITING_CHANGES, "the first was dropped while it was under way"
    site.clock.advance(PRESENCE_INTERVAL)
    assert [change["user"] for change in site.client.bodies[-1]["joined"]] == [
        str(n) for n in range(MAX_CHANGES)
    ]


@pytest.mark.parametrize("steps", [0, 1])
def test_what_waits_is_posted_at_the_end(steps: int) -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    site.clock.advance(PRESENCE_INTERVAL * steps)
    site.url.add("room", {}, ["42"])
    stopping = Deferred.fromCoroutine(site.url.stop())
    for _ in range(2):
        assert not stopping.called
        site.client.answer()
    assert stopping.called
    assert [len(body["joined"]) for body in site.client.bodies] == [1, 0]
    assert site.clock.getDelayedCalls() == []
    site.url.add("room", {"43": None}, [])
    assert site.clock.getDelayedCalls() == []


def test_the_end_does_not_wait_for_an_application_that_is_away() -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    stopping = Deferred.fromCoroutine(site.url.stop())
    site.client.answer(503)
    assert stopping.called
    assert site.clock.getDelayedCalls() == []


@pytest.mark.parametrize("steps", [0, 1])
def test_it_can_be_aborted(steps: int) -> None:
    site = Site()
    site.url.add("room", {"42": None}, [])
    site.clock.advance(PRESENCE_INTERVAL * steps)
    site.url.abort()
    assert site.clock.getDelayedCalls() == []


CHANGES = st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from("123")), max_size=20)


@given(CHANGES, st.lists(st.sampled_from([204, 500]), max_size=20))
def test_each_change_is_posted_in_order_at_least_once(
    changes: list[tuple[bool, str, str]], statuses: list[int]
) -> None:
    site = Site()
    for has_joined, channel, user in changes:
        site.url.add(channel, {user: None} if has_joined else {}, [] if has_joined else [user])
    done = 0
    for status in [*statuses, *[204] * (len(changes) + 1)]:
        site.clock.advance(presence_url.MAX_PAUSE)
        if len(site.client.bodies) > done:
            site.client.answer(status)
            if status != 204:
                site.client.bodies.pop()
                site.client.answers.pop()
            done = len(site.client.bodies)
    assert len(site.url) == 0
    for channel in "ab":
        for user in "123":
            posted = [
                name == "joined"
                for body in site.client.bodies
                for name in ("left", "joined")
                for change in body[name]
                if (change["channel"], change["user"]) == (channel, user)
            ]
            assert posted == [joined for joined, *where in changes if where == [channel, user]]
