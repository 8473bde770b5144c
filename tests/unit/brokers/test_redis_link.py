"""A connection to Redis: raw bytes in, raw bytes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import TimeoutError
from twisted.internet.error import ConnectionLost

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.redis_link import (
    CONTROL,
    COPIES,
    PING_INTERVAL,
    PING_WAIT,
)
from cyclone_sse.delivery.publication import publication
from tests.unit.brokers.redis_wire import MASTER, Server, fate, publish, reply

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize(
    "message", [b"42", b"007", b"1.50", b"", b"\xff\xfe", "é".encode(), b"-1e5", b"a\r\nb", b"x" * 100_000]
)
def test_a_message_arrives_as_it_was_sent(server: Server, message: bytes) -> None:
    server.subscribe("12", "base")
    server.send(reply(b"message", b"12", message) + reply(b"message", b"base", b"next"))
    assert server.messages == [([b"12"], b"12", message), ([b"base"], b"base", b"next")]


def test_the_login_is_in_utf8_and_ends_with_a_ping() -> None:
    server = Server("usér", "pässword", 3)
    greeted = fate(server.link.log_in())
    assert server.read() == reply(b"AUTH", "usér".encode(), "pässword".encode())
    server.send(b"+OK\r\n")
    assert server.read() == reply(b"SELECT", b"3")
    server.send(b"+OK\r\n")
    assert (server.read(), greeted) == (reply(b"PING"), [])
    server.send(b"+PONG\r\n")
    assert (server.read(), greeted) == (reply(b"ROLE"), [])
    server.send(MASTER)
    assert greeted == [None]


@pytest.mark.parametrize(
    "error", ["WRONGPASS invalid", "NOAUTH Authentication required.", "LOADING Redis is"]
)
def test_a_refusal_at_the_login_is_the_error(error: str) -> None:
    server = Server(password="x")
    greeted = fate(server.link.log_in())
    server.send(b"-%s\r\n" % error.encode())
    assert str(greeted[0]) == error


def test_a_connection_that_is_lost_at_the_login_says_so(server: Server) -> None:
    greeted = fate(server.link.log_in())
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
    assert server.messages == [(["é".encode()], "é".encode(), b"x")]


def test_publishing_waits_for_every_answer(server: Server) -> None:
    done = fate(publish(server.link, [publication(["a", "é"], b"x"), publication("b", "ü")]))
    announcement = COPIES + b'[2363233923, "a", "\\u00e9"]'
    sent = [
        (b"MULTI",),
        (b"SPUBLISH", CONTROL, announcement),
        (b"PUBLISH", b"a", b"x"),
        (b"PUBLISH", "é".encode(), b"x"),
        (b"PUBLISH", b"b", "ü".encode()),
        (b"EXEC",),
    ]
    assert server.read() == b"".join(reply(*words) for words in sent)
    server.send(b"+OK\r\n" + b"+QUEUED\r\n" * 4)
    assert done == []
    server.send(reply(1, 0, 2, 2))
    assert done == [[None, None]]
    both = [publication(["a", "b"], "x")]
    lost = fate(publish(server.link, both))
    server.transport.abortConnection()
    assert isinstance(lost[0], ConnectionLost)
    assert isinstance(fate(publish(server.link, both))[0], ConnectionLost)


def test_everything_lies_below_the_prefix() -> None:
    server = Server(prefix="s*e:")
    server.link.subscribe("a")
    server.link.subscribe("n*")
    server.link.unsubscribe("n*")
    server.link.subscribe_to_orders()
    publish(server.link, [publication("a", "x")])
    server.link.publish_order(b"{}")
    assert server.read() == b"".join(
        [
            reply(b"SUBSCRIBE", b"s*e:a"),
            reply(b"PSUBSCRIBE", b"s\\*e:n*"),
            reply(b"PUNSUBSCRIBE", b"s\\*e:n*"),
            reply(b"SSUBSCRIBE", b"s*e:" + CONTROL),
            reply(b"PUBLISH", b"s*e:a", b"x"),
            reply(b"SPUBLISH", b"s*e:" + CONTROL, b"{}"),
        ]
    )
    server.send(reply(b"subscribe", b"s*e:a", 1) + reply(b"psubscribe", b"s\\*e:n*", 2))
    server.send(reply(b"message", b"s*e:a", b"1") + reply(b"pmessage", b"s\\*e:n*", b"s*e:new", b"2"))
    assert server.messages == [([b"a"], b"a", b"1"), ([b"n*"], b"new", b"2")]


def test_a_name_that_is_not_unicode_is_an_error(server: Server) -> None:
    assert isinstance(fate(server.link.subscribe("\ud800"))[0], NotAllowed)
    assert server.read() == b""


def test_a_ping_that_is_not_answered_ends_the_connection(server: Server) -> None:
    gone = fate(server.link.ended)
    server.link.log_in()
    server.send(b"+PONG\r\n" + MASTER)
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


def test_orders_come_beside_all_channels(server: Server) -> None:
    heard = fate(server.link.subscribe_to_orders())
    server.send(reply(b"ssubscribe", CONTROL, 1) + reply(b"smessage", CONTROL, b"{}"))
    assert (len(heard), server.messages) == (1, [([], CONTROL, b"{}")])


def test_a_redis_without_sharded_channels_has_a_plain_one_for_orders(server: Server) -> None:
    heard, sent = fate(server.link.subscribe_to_orders()), fate(server.link.publish_order(b"{}"))
    server.read()
    server.send(b"-ERR unknown command 'SSUBSCRIBE'\r\n-ERR unknown command 'SPUBLISH'\r\n")
    assert server.read() == reply(b"SUBSCRIBE", CONTROL) + reply(b"PUBLISH", CONTROL, b"{}")
    server.send(reply(b"subscribe", CONTROL, 1) + b":1\r\n" + reply(b"message", CONTROL, b"{}"))
    assert (len(heard), sent) == (1, [1])
    assert server.messages == [([], CONTROL, b"{}")]
    refused = fate(server.link.subscribe_to_orders())
    server.send(b"-NOPERM no\r\n")
    assert "NOPERM" in str(refused[0])


def test_copies_of_one_message_are_one_however_the_reads_fall(server: Server) -> None:
    server.subscribe("ab", "a*", "*b", "b*")
    copies = reply(b"message", b"ab", b"x")
    copies += b"".join(reply(b"pmessage", pattern, b"ab", b"x") for pattern in (b"*b", b"a*"))
    for n in range(len(copies) + 1):
        server.messages.clear()
        server.send(copies[:n])
        server.send(copies[n:])
        assert server.messages == [([b"ab", b"a*", b"*b"], b"ab", b"x")]


def test_what_was_subscribed_between_two_messages_counts_from_the_second(server: Server) -> None:
    server.subscribe("a*")
    copy = reply(b"pmessage", b"a*", b"ab", b"x")
    server.link.subscribe("*b")
    server.send(copy + reply(b"psubscribe", b"*b", 2) + copy + reply(b"pmessage", b"*b", b"ab", b"x"))
    server.link.unsubscribe("a*")
    server.send(reply(b"punsubscribe", b"a*", 1) + reply(b"pmessage", b"*b", b"ab", b"x"))
    assert [names for names, *_ in server.messages] == [[b"a*"], [b"a*", b"*b"], [b"*b"]]


def test_redis_is_right_where_it_matches_otherwise_than_we(server: Server) -> None:
    server.subscribe("a*")
    server.send(reply(b"pmessage", b"a*", b"b", b"x") + reply(b"message", b"c", b"y"))
    assert server.messages == [([b"a*"], b"b", b"x"), ([b"c"], b"c", b"y")]


def test_what_is_not_redis_is_given_up(server: Server) -> None:
    greeted = fate(server.link.log_in())
    server.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    assert "rotocol error" in str(greeted[0])
    assert not server.transport.connected


@pytest.mark.slow
def test_it_works_without_hiredis_too() -> None:
    """txredisapi has a parser of its own where hiredis is not installed."""
    this = "import sys, pytest; sys.modules['hiredis'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    tests = [__file__, str(Path(__file__).with_name("test_redis_copies.py"))]
    others = ["-q", "-p", "no:cacheprovider", "-k", "not hiredis and not given_up", *tests]
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
    server.subscribe(*(name.decode() for name in channels | patterns))
    for channel, message, order in publications:
        copies = [reply(b"message", channel, message)] if channel in channels else []
        names = {channel} & channels
        for pattern in order:
            if pattern in patterns and matches(pattern, channel):
                copies.append(reply(b"pmessage", pattern, channel, message))
                names.add(pattern)
        for data in copies:
            server.send(data)
        if names:
            expected.append((names, channel, message))
    assert [(set(names), *rest) for names, *rest in server.messages] == expected


def matches(pattern: bytes, channel: bytes) -> bool:
    if pattern.startswith(b"*"):
        return channel.endswith(pattern[1:])
    return channel.startswith(pattern[:-1])
