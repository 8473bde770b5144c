"""Whose streams are opened: `authorize` of custom applications, tokens, the application, limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cyclone.web import HTTPError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.access.rules import rules_of
from cyclone_sse.brokers import HttpBroker
from cyclone_sse.handlers import BroadcastHandler
from tests.harness.eventstream import Parser
from tests.unit.access.keys import SECRET, token
from tests.unit.http.peer import POLL, MemoryServer

GONE = Failure(ConnectionDone())


def deny(self: BroadcastHandler) -> bool:
    return False


def later(self: BroadcastHandler) -> Deferred[bool]:
    d: Deferred[bool] = Deferred()
    self.broker.reactor.callLater(0, d.callback, False)
    return d


async def coroutine(self: BroadcastHandler) -> bool:
    return False


def forbid(self: BroadcastHandler) -> bool:
    raise HTTPError(403)


def fail(self: BroadcastHandler) -> bool:
    raise ZeroDivisionError


def generator(self: BroadcastHandler) -> Any:
    yield False


def pair(self: BroadcastHandler) -> Any:
    return False, "not a member"


def members(self: BroadcastHandler) -> Any:
    return ["ann", "bob"]


def method(self: BroadcastHandler) -> Any:
    return self.get_channels


def later_pair(self: BroadcastHandler) -> Any:
    d: Deferred[Any] = Deferred()
    self.broker.reactor.callLater(0, d.callback, (False, "not a member"))
    return d


def later_coroutine(self: BroadcastHandler) -> Any:
    d: Deferred[Any] = Deferred()
    d.callback(None)
    return d.addCallback(lambda _: Asked())


class Asked:
    """An awaitable that fails the test when it is awaited."""

    def __await__(self) -> Any:
        raise NotImplementedError


def anonymous(self: BroadcastHandler) -> Any:
    return self.get_cookie("member")


@pytest.mark.parametrize(
    ("authorize", "status", "bugs"),
    [
        *[(deny, 401, 0), (later, 401, 0), (coroutine, 401, 0), (anonymous, 401, 0), (forbid, 403, 0)],
        *[(fail, 500, 1), (generator, 500, 1), (pair, 500, 1), (members, 500, 1), (method, 500, 1)],
        *[(later_pair, 500, 1), (later_coroutine, 500, 1)],
    ],
)
def test_authorize_refuses(
    authorize: Callable[[Any], Any], status: int, bugs: int, failures: list[Any]
) -> None:
    handler = type("Guarded", (BroadcastHandler,), {"authorize": authorize})
    server = MemoryServer(subscribe=handler)
    assert server.request("GET", "/?channels=a")[0] == status
    assert server.app.broker.stats() == []
    assert len(failures) == bugs


class User:
    """What a database gives for a member."""


async def member(self: BroadcastHandler) -> Any:
    return User()


@pytest.mark.parametrize(
    "authorize", [lambda self: "ann", lambda self: User(), lambda self: 1, lambda self: {"id": 1}, member]
)
def test_authorize_counts_by_its_truth(authorize: Callable[[Any], Any]) -> None:
    handler = type("Guarded", (BroadcastHandler,), {"authorize": authorize})
    assert MemoryServer(subscribe=handler).request("GET", "/?channels=a")[0] == 200


def test_a_client_that_leaves_while_authorize_thinks_is_never_bound() -> None:
    answer: Deferred[bool] = Deferred()
    handler = type("Slow", (BroadcastHandler,), {"authorize": lambda self: answer})
    server = MemoryServer(subscribe=handler)
    transport = server.connect("GET", "/?channels=a")
    transport.connection.connectionLost(GONE)
    answer.callback(True)
    assert server.app.broker.stats() == []


def test_a_private_channel_needs_a_token() -> None:
    server = MemoryServer(
        {"jwt-secret": SECRET, "public": ("front",), "cors-origin": ("https://www.example",)}
    )
    origin = "Origin: https://www.example"
    good = token(sub="42", subscribe=["user-42"])
    for target, status in (
        ("/?channels=front", 200),
        ("/?channels=user-42", 401),
        (f"/?channels=user-42&access_token={good}x", 401),
        (f"/?channels=user-42&channels=front&access%5Ftoken={good}", 200),
        (f"/?channels=user-43&access_token={good}", 403),
    ):
        answer, head, body = server.request("GET", target, origin)
        assert answer == status, target
        assert "Access-Control-Allow-Origin: https://www.example" in head
        exposed = head.partition("Access-Control-Expose-Headers: ")[2].split("\r\n")[0]
        assert {"WWW-Authenticate", "Retry-After"} <= set(exposed.split(", "))
        if status == 401:
            assert 'WWW-Authenticate: Bearer error="invalid_token"' in head
        if status == 403:
            assert "'user-43'" in json.loads(body)["reason"]
    assert server.broker.stats() == [("front", 2), ("user-42", 1)]


@pytest.mark.parametrize("poll", [(), (POLL,)])
def test_a_stream_ends_with_its_token(poll: tuple[str, ...]) -> None:
    server = MemoryServer({"jwt-secret": SECRET, "ping-interval": 0.0})
    server.broker.start()
    started = time.time() - server.clock.seconds()
    server.broker.hub.lifecycle.wall = lambda: started + server.clock.seconds()
    expires = int(started) + 5  # from the same look at the clock: the test's own time stands still
    client = server.connect(
        "GET", f"/?channels=a&access_token={token(subscribe=['a'], exp=expires)}", "X: y", *poll
    )
    for _ in range(40):
        assert b"sse-expired" not in client.value() or server.clock.seconds() > 3
        server.clock.advance(0.2)
    server.turn()
    (event,) = Parser().feed(client.value().partition(b"\r\n\r\n")[2])
    assert event.type == "sse-expired"
    assert poll or client.gone


def test_what_an_application_may_log_holds_no_token() -> None:
    seen: list[str] = []

    class Logging(BroadcastHandler):
        def authorize(self) -> bool:
            request = self.request
            seen.extend(map(repr, (request, request.uri, request.query, request.arguments)))
            return True

    server = MemoryServer({"jwt-secret": SECRET}, subscribe=Logging)
    good = token(subscribe=["a"])
    for query in (
        f"access_token={good}&channels=a",
        f"channels=a&access_token={good}",
        f"channels=a&%61ccess_token={good}&uuid=1&access_token={good}",
        f"channels=a&access_token=old&access_token={good}",
    ):
        assert server.request("GET", f"/?{query}")[0] == 200
    assert (
        server.request("GET", "/?channels=a", f"Authorization: Bearer {good}", f"Cookie: x={good}")[0] == 200
    )
    assert good not in "".join(seen)
    assert "'/?channels=a'" in seen
    assert "'/?channels=a&uuid=1'" in seen


def test_an_application_that_reads_the_parameter_itself_still_gets_it() -> None:
    class Own(BroadcastHandler):
        def authorize(self) -> bool:
            return bool(self.get_argument("access_token") == "mine")

    assert MemoryServer(subscribe=Own).request("GET", "/?channels=a&access_token=mine")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_leaves_while_the_application_is_asked_is_forgotten(method: str, failures: list[Any]) -> None:
    server = MemoryServer({"auth-url": "http://127.0.0.1:1/"})
    cancelled: list[Any] = []
    question: Deferred[Any] = Deferred(cancelled.append)
    rules_of(server.app)._auth_url = SimpleNamespace(ask=lambda *_: question)  # type: ignore[assignment]
    client = server.connect(method, "/?channels=a")
    client.connection.connectionLost(GONE)
    assert cancelled == [question]
    assert server.broker.stats() == []
    assert not failures


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("channels=a&channels=b", 200),
        ("channels=a&channels=a&channels=b", 200),
        ("channels=a&channel=b&channels=c", 400),
    ],
)
def test_a_stream_has_so_many_channels_at_most(query: str, status: int) -> None:
    assert MemoryServer({"max-channels": 2}).request("GET", f"/?{query}")[0] == status


def test_patterns_are_off_where_others_speak_too() -> None:
    class Shared(HttpBroker):
        open_patterns = False

        def is_pattern(self, channel: str) -> bool:
            return "*" in channel

    status, _, body = MemoryServer(broker=Shared).request("GET", "/?channels=a&channels=news.*")
    assert status == 403
    assert "--patterns=1" in json.loads(body)["reason"]
    server = MemoryServer({"patterns": True, "max-patterns": 1}, broker=Shared)
    assert server.request("GET", "/?channels=news.*")[0] == 200
    assert server.request("GET", "/?channels=news.*&channels=*")[0] == 400
    assert MemoryServer().request("GET", "/?channels=news.*")[0] == 200  # only a name


def test_what_is_private_is_stored_nowhere() -> None:
    server = MemoryServer({"jwt-secret": SECRET, "public": ("front",)})
    bearer = f"Authorization: Bearer {token(subscribe=['a'])}"
    for headers in ([], [POLL]):
        _, head, _ = server.request("GET", "/?channels=a", bearer, *headers)
        assert "\r\nCache-Control: private, no-store, no-transform\r\n" in head
        _, head, _ = server.request("GET", "/?channels=front", *headers)
        assert "\r\nCache-Control: no-cache, no-transform\r\n" in head


def test_a_client_that_closes_its_side_is_not_waited_for() -> None:
    answer: Deferred[bool] = Deferred()
    server = MemoryServer(subscribe=type("Slow", (BroadcastHandler,), {"authorize": lambda self: answer}))
    client = server.connect("GET", "/?channels=a")
    client.connection.readConnectionLost()
    assert client.aborted
