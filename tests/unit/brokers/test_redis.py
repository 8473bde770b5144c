"""A connection to Redis: raw bytes in, raw bytes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from cyclone_sse.brokers.redis import PING_INTERVAL, PING_WAIT, RedisBroker, RedisLink

ROOT = Path(__file__).parents[3]

Copy = tuple[bytes | None, bytes, bytes, bool]


class Transport(StringTransportWithDisconnection):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a TCP transport."""

    setTcpKeepAlive = setTcpNoDelay

    def abortConnection(self) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(ConnectionLost()))


class Server:
    """The other side of one connection."""

    def __init__(
        self, username: str | None = None, password: str | None = None, db: int | None = None
    ) -> None:
        self.clock = Clock()
        self.copies: list[Copy] = []
        self.transport = Transport()
        self.link = RedisLink(lambda *copy: self.copies.append(copy), self.clock, username, password, db)
        self.transport.protocol = self.link
        self.link.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send bytes; txredisapi takes up what follows a bulk string in the next turn."""
        self.link.dataReceived(data)
        while (
            self.clock.getDelayedCalls() and self.clock.getDelayedCalls()[0].getTime() <= self.clock.seconds()
        ):
            self.clock.advance(0)

    def read(self) -> bytes:
        """What was sent since the last time."""
        sent: bytes = self.transport.value()
        self.transport.clear()
        return sent


def reply(*words: bytes | int) -> bytes:
    """An array as Redis sends it."""
    parts = [
        b":%d\r\n" % word if isinstance(word, int) else b"$%d\r\n%s\r\n" % (len(word), word) for word in words
    ]
    return b"*%d\r\n" % len(words) + b"".join(parts)


def fate(d: Deferred[Any]) -> list[Any]:
    """A list that will hold the result, or the exception."""
    results: list[Any] = []
    d.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize(
    "message", [b"42", b"007", b"1.50", b"", b"\xff\xfe", "é".encode(), b"-1e5", b"a\r\nb", b"x" * 100_000]
)
def test_a_message_arrives_as_it_was_sent(server: Server, message: bytes) -> None:
    server.send(reply(b"message", b"12", message) + reply(b"message", b"base", b"next"))
    assert server.copies == [(None, b"12", message, False), (None, b"base", b"next", False)]


def test_the_login_is_in_utf8_and_ends_with_a_ping() -> None:
    server = Server("usér", "pässword", 3)
    greeted = fate(server.link.greet())
    assert server.read() == reply(b"AUTH", "usér".encode(), "pässword".encode())
    server.send(b"+OK\r\n")
    assert server.read() == reply(b"SELECT", b"3")
    server.send(b"+OK\r\n")
    assert (server.read(), greeted) == (reply(b"PING"), [])
    server.send(b"+PONG\r\n")
    assert greeted == [None]


@pytest.mark.parametrize(
    "error", ["WRONGPASS invalid", "NOAUTH Authentication required.", "LOADING Redis is"]
)
def test_a_refusal_at_the_login_is_the_error(error: str) -> None:
    server = Server(password="x")
    greeted = fate(server.link.greet())
    server.send(b"-%s\r\n" % error.encode())
    assert str(greeted[0]) == error


def test_a_connection_that_is_lost_at_the_login_says_so(server: Server) -> None:
    greeted = fate(server.link.greet())
    server.transport.abortConnection()
    assert isinstance(greeted[0], ConnectionLost)


def test_each_subscription_has_its_own_confirmation(server: Server) -> None:
    first, second, third = (fate(server.link.subscribe(name)) for name in ("é", "news.*", "c"))
    gone = fate(server.link.unsubscribe("news.*"))
    commands = [(b"SUBSCRIBE", "é".encode()), (b"PSUBSCRIBE", b"news.*"), (b"SUBSCRIBE", b"c")]
    commands.append((b"PUNSUBSCRIBE", b"news.*"))
    assert server.read() == b"".join(reply(*words) for words in commands)
    server.send(reply(b"subscribe", "é".encode(), 1))
    assert (len(first), second) == (1, [])
    server.send(reply(b"message", "é".encode(), b"x") + reply(b"psubscribe", b"news.*", 2))
    assert (len(second), third) == (1, [])
    server.send(b"-NOPERM this user has no permissions\r\n")
    assert "NOPERM" in str(third[0])
    server.send(reply(b"punsubscribe", b"news.*", 1))
    assert len(gone) == 1
    assert server.copies == [(None, "é".encode(), b"x", False)]


def test_publishing_waits_for_every_answer(server: Server) -> None:
    done = fate(server.link.publish(["a", "é"], b"\xff"))
    assert server.read() == reply(b"PUBLISH", b"a", b"\xff") + reply(b"PUBLISH", "é".encode(), b"\xff")
    server.send(b":0\r\n")
    assert done == []
    server.send(b":2\r\n")
    assert done == [[0, 2]]
    lost = fate(server.link.publish(["a", "b"], b"x"))
    server.transport.abortConnection()
    assert isinstance(lost[0].subFailure.value, ConnectionLost)
    assert isinstance(fate(server.link.publish(["a"], b"x"))[0].subFailure.value, ConnectionLost)


def test_a_name_that_is_not_unicode_is_an_error(server: Server) -> None:
    assert isinstance(fate(server.link.subscribe("\ud800"))[0], UnicodeError)
    assert server.read() == b""


def test_a_ping_that_is_not_answered_ends_the_connection(server: Server) -> None:
    gone = fate(server.link.gone)
    server.link.greet()
    server.send(b"+PONG\r\n")
    server.link.subscribe("a")
    server.send(reply(b"subscribe", b"a", 1))
    server.read()
    server.clock.advance(PING_INTERVAL)
    assert server.read() == reply(b"PING")
    server.send(reply(b"pong", b""))
    server.clock.advance(PING_INTERVAL)
    server.clock.advance(PING_WAIT - 1)
    assert gone == []
    server.clock.advance(1)
    assert isinstance(gone[0], TimeoutError)
    assert str(gone[0]) == "no answer to a ping"
    assert not server.clock.getDelayedCalls()


def test_the_answer_to_a_change_of_subscriptions_ends_a_run_of_copies(server: Server) -> None:
    copy = reply(b"pmessage", b"a*", b"ab", b"x")
    server.link.subscribe("*b")
    server.send(copy + reply(b"psubscribe", b"*b", 2) + reply(b"pmessage", b"*b", b"ab", b"x"))
    # The second is another message: the first was sent when *b was not yet subscribed.
    assert [more for *_, more in server.copies] == [False, False]


def test_what_is_not_redis_is_given_up(server: Server) -> None:
    greeted = fate(server.link.greet())
    server.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    assert "rotocol error" in str(greeted[0])
    assert not server.transport.connected


def test_it_works_without_hiredis_too() -> None:
    """txredisapi has a parser of its own where hiredis is not installed."""
    this = "import sys, pytest; sys.modules['hiredis'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    others = ["-q", "-p", "no:cacheprovider", "-k", "not hiredis and not given_up", __file__]
    subprocess.run([sys.executable, "-c", this, *others], check=True, cwd=ROOT, timeout=60)


PATTERNS = [b"*", b"a*", b"*a", b"b*"]
PUBLICATIONS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"aa"]), st.sampled_from([b"x", b"y"]), st.permutations(PATTERNS)),
    max_size=30,
)


@given(st.sets(st.sampled_from([b"a", b"b"])), st.sets(st.sampled_from(PATTERNS)), PUBLICATIONS)
def test_the_copies_of_a_message_are_told_from_equal_messages(
    channels: set[bytes], patterns: set[bytes], publications: list[tuple[bytes, bytes, list[bytes]]]
) -> None:
    """As Redis does it: the channel's own copy first, then the patterns', in an order that may change."""
    server, expected = Server(), []
    for channel, message, order in publications:
        copies: list[tuple[bytes | None, bytes]] = []
        if channel in channels:
            copies.append((None, reply(b"message", channel, message)))
        for pattern in order:
            if pattern in patterns and matches(pattern, channel):
                copies.append((pattern, reply(b"pmessage", pattern, channel, message)))
        for n, (name, data) in enumerate(copies):
            server.send(data)
            expected.append((name, channel, message, n > 0))
    assert server.copies == expected


def matches(pattern: bytes, channel: bytes) -> bool:
    if pattern.startswith(b"*"):
        return channel.endswith(pattern[1:])
    return channel.startswith(pattern[:-1])


def test_a_blocked_pattern_takes_nothing_from_the_others() -> None:
    class Blocking(RedisBroker):
        def is_pattern_blocked(self, pattern: str) -> bool:
            return pattern == "a*"

    broker = Blocking({}, reactor=Clock())
    broker.interests.keep(["b", "a*", "*b"])
    broker._deliver(None, b"b", b"old", False)
    broker._deliver(b"a*", b"ab", b"new", False)
    broker._deliver(b"*b", b"ab", b"new", True)
    held = broker.hub.history.since(0, ["a*"], 0)
    assert [event.message for event in held] == []
    assert [event.message for event in broker.hub.history.since(0, ["*b"], 0)] == ["old", "new"]
