"""A connection to Redis that logs in, publishes and is watched: raw bytes in, raw bytes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import TimeoutError
from twisted.internet.error import ConnectionDone, ConnectionLost

from cyclone_sse.brokers.link import NotPublished, WrongServer
from cyclone_sse.brokers.redis_link import (
    CONTROL,
    COPIES,
    COPIES_END,
    PING_INTERVAL,
    PING_WAIT,
    PartlyDone,
    RedisLink,
    ReplyTooLong,
)
from cyclone_sse.brokers.redis_pipeline import WORDS_AT_ONCE
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from tests.harness.patience import PATIENCE
from tests.unit.brokers.redis_wire import MASTER, Server, fate, publish, reply

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server() -> Server:
    return Server()


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


def test_publishing_waits_for_every_answer(server: Server) -> None:
    done = fate(publish(server.link, [publication(["a", "é"], b"x"), publication("b", "ü")]))
    sent = [
        (b"MULTI",),
        (b"SPUBLISH", CONTROL, COPIES + b"2363233923"),
        (b"PUBLISH", b"a", b"x"),
        (b"PUBLISH", "é".encode(), b"x"),
        (b"SPUBLISH", CONTROL, COPIES_END),
        (b"PUBLISH", b"b", "ü".encode()),
        (b"EXEC",),
    ]
    assert server.read() == b"".join(reply(*words) for words in sent)
    server.send(b"+OK\r\n" + b"+QUEUED\r\n" * 5)
    assert done == []
    server.send(reply(1, 0, 2, 1, 2))
    assert done == [[None, None]]
    both = [publication(["a", "b"], "x")]
    lost = fate(publish(server.link, both))
    server.transport.abortConnection()
    assert isinstance(lost[0], ConnectionLost)
    assert isinstance(fate(publish(server.link, both))[0], NotPublished)


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


@pytest.mark.parametrize("error", [b"NOPERM this user", b"OOM command not allowed", b"READONLY You can't"])
def test_an_order_that_is_refused_is_not_published(server: Server, error: bytes) -> None:
    done = fate(server.link.publish_order(b"{}"))
    server.send(b"-" + error + b"\r\n")
    assert isinstance(done[0], NotPublished)
    assert error.decode() in str(done[0])


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


def test_what_is_not_redis_is_given_up(server: Server) -> None:
    greeted = fate(server.link.log_in())
    server.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    assert "rotocol error" in str(greeted[0])
    assert not server.transport.connected


@pytest.mark.slow
def test_it_works_without_hiredis_too() -> None:
    """txredisapi has a parser of its own where hiredis is not installed."""
    tests = [__file__, str(Path(__file__).with_name("test_redis_subscriber_link.py"))]
    this = "import sys, pytest; sys.modules['hiredis'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    others = ["-q", "-p", "no:cacheprovider", "-k", "not hiredis and not given_up", *tests]
    subprocess.run([sys.executable, "-c", this, *others], check=True, cwd=ROOT, timeout=PATIENCE)


def test_without_the_channel_for_orders_copies_are_published_alone(server: Server) -> None:
    done = fate(publish(server.link, [publication(["a", "b"], "x")]))
    for _ in range(2):  # sharded, then plain
        server.read()
        server.send(b"+OK\r\n-NOPERM no\r\n+QUEUED\r\n+QUEUED\r\n-NOPERM no\r\n-EXECABORT\r\n")
    words: list[tuple[bytes, ...]] = [
        (b"MULTI",),
        (b"PUBLISH", b"a", b"x"),
        (b"PUBLISH", b"b", b"x"),
        (b"EXEC",),
    ]
    assert server.read() == b"".join(reply(*each) for each in words)
    server.send(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n" + reply(1, 1))
    assert done == [[None]]


def test_a_message_for_very_many_channels_is_sent_in_one_piece(server: Server) -> None:
    names = [f"c{n}" for n in range(3 * WORDS_AT_ONCE)]
    wide = fate(publish(server.link, [publication(names, "x")]))
    narrow = fate(publish(server.link, [publication("a", "y")]))
    assert server.read() == reply(b"PUBLISH", b"a", b"y"), "another need not wait for the slices"
    for _ in range(20):
        server.clock.advance(0)
    later = fate(publish(server.link, [publication("a", "z")]))
    sent = server.read()
    words = [(b"PUBLISH", name.encode(), b"x") for name in names]
    words.append((b"SPUBLISH", CONTROL, COPIES_END))
    middle = b"".join(reply(*each) for each in [*words, (b"EXEC",), (b"PUBLISH", b"a", b"z")])
    assert sent.startswith(reply(b"MULTI"))
    assert sent.endswith(middle)
    server.send(b":1\r\n+OK\r\n" + b"+QUEUED\r\n" * (len(names) + 2))
    assert (narrow, wide, later) == ([[None]], [], [])
    server.send(reply(*[1] * (len(names) + 2)))
    assert (wide, later) == ([[None]], [])
    server.send(b":1\r\n")
    assert later == [[None]]


@pytest.mark.parametrize("turns", [0, 20])
def test_a_connection_that_is_lost_fails_what_is_encoded_and_what_waits(server: Server, turns: int) -> None:
    done = fate(publish(server.link, [publication([f"c{n}" for n in range(WORDS_AT_ONCE)], "x")]))
    for _ in range(turns):
        server.clock.advance(0)
    server.transport.loseConnection()
    for _ in range(20):
        server.clock.advance(0)
    (error,) = done
    assert isinstance(error, ConnectionDone if turns else NotPublished), "published: unknown, or false"


def test_where_multi_is_not_allowed_the_messages_may_be_published(server: Server) -> None:
    done = fate(publish(server.link, [publication(["a", "b"], "x")]))
    server.read()
    server.send(b"-NOPERM no\r\n:1\r\n:1\r\n:1\r\n:1\r\n-ERR EXEC without MULTI\r\n")
    assert isinstance(done[0], PartlyDone)
    assert not server.read(), "not once more"


def test_copies_that_would_fill_the_memory_are_refused(server: Server) -> None:
    done = fate(publish(server.link, [publication([f"c{n}" for n in range(1000)], "x" * 70_000)]))
    assert isinstance(done[0], Refusal)
    assert not server.read()


def test_an_error_in_a_transaction_is_that_of_its_command(server: Server) -> None:
    done = fate(publish(server.link, [publication("a", "x"), publication("b", "x")]))
    server.send(b"+OK\r\n+QUEUED\r\n-READONLY no\r\n-EXECABORT no\r\n")
    assert isinstance(done[0], NotPublished)
    assert "READONLY" in str(done[0])
    assert not server.transport.connected


@pytest.mark.parametrize("answer", [b"-OOM no\r\n", b"-NOPERM no\r\n", b"-LOADING wait\r\n"])
def test_what_redis_refuses_was_not_published(server: Server, answer: bytes) -> None:
    done = fate(publish(server.link, [publication("a", "x")]))
    server.send(answer)
    (error,) = done
    assert isinstance(error, NotPublished)
    assert server.transport.connected


def test_a_replica_ends_the_connection(server: Server) -> None:
    ended, done = fate(server.link.ended), fate(publish(server.link, [publication("a", "x")]))
    server.send(b"-READONLY You can't write against a read only replica.\r\n")
    assert isinstance(done[0], NotPublished)
    assert isinstance(ended[0], WrongServer)


def test_each_ping_asks_for_the_role() -> None:
    server = Server(kind=RedisLink)
    ended = fate(server.link.ended)
    server.link.log_in()
    server.send(b"+PONG\r\n" + MASTER)
    server.read()
    server.clock.advance(5)
    assert server.read() == reply(b"ROLE")
    server.send(MASTER)
    server.clock.advance(5)
    server.send(reply(b"slave", b"10.0.0.9", 6379, b"connected", 0))
    assert isinstance(ended[0], WrongServer)


def test_a_user_without_the_right_to_ask_is_served() -> None:
    server = Server(kind=RedisLink)
    logged_in = fate(server.link.log_in())
    server.send(b"+PONG\r\n-NOPERM this user has no permissions to run the 'role' command\r\n")
    assert logged_in == [None]


def test_one_reply_is_bounded(server: Server) -> None:
    server.link.reply_max = 1000
    server.subscribe("a")
    ended = fate(server.link.ended)
    for _ in range(10):
        server.send(reply(b"message", b"a", b"x" * 500))
    assert len(server.messages) == 10
    server.send(reply(b"message", b"a", b"x" * 5000)[:900])
    server.send(b"x" * 900)
    assert isinstance(ended[0], ReplyTooLong)
