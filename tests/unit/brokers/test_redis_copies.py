"""One message that is published to several channels in Redis is one event."""

from __future__ import annotations

import zlib

import pytest

from cyclone_sse.brokers.link import NotPublished, WrongServer
from cyclone_sse.brokers.redis_link import CONTROL, COPIES, ReplyTooLong
from cyclone_sse.delivery.publication import publication
from tests.unit.brokers import redis_wire
from tests.unit.brokers.redis_wire import Server, fate, publish, reply


@pytest.fixture
def server() -> Server:
    return Server()


def announce(message: bytes, *channels: str) -> bytes:
    names = b", ".join(b'"%s"' % name.encode() for name in channels)
    return reply(b"smessage", CONTROL, COPIES + b"[%d, %s]" % (zlib.crc32(message), names))


def test_announced_copies_are_one_event_however_the_reads_fall(server: Server) -> None:
    server.subscribe("a", "b", "a*")
    copies = announce(b"x", "a", "b", "c")
    copies += reply(b"message", b"a", b"x") + reply(b"pmessage", b"a*", b"a", b"x")
    copies += reply(b"message", b"b", b"x")
    for n in range(len(copies) + 1):
        server.messages.clear()
        server.send(copies[:n])
        server.send(copies[n:])
        assert server.messages == [([b"a", b"a*", b"b"], b"a", b"x")]


def test_the_same_text_published_again_is_another_event(server: Server) -> None:
    server.subscribe("a", "b")
    once = announce(b"x", "a", "b") + reply(b"message", b"a", b"x") + reply(b"message", b"b", b"x")
    server.send(once + once + reply(b"message", b"b", b"x"))
    both = [b"a", b"b"]
    assert server.messages == [(both, b"a", b"x"), (both, b"a", b"x"), ([b"b"], b"b", b"x")]


@pytest.mark.parametrize(
    "announcement",
    [b"", b"no JSON", b"[]", b"{}", b'[0, "a", "b"]', b'["a", "b"]', b"[1, 2]", b"[" * 10_000],
)
def test_an_announcement_that_does_not_fit_changes_nothing(server: Server, announcement: bytes) -> None:
    server.subscribe("a", "b")
    server.send(reply(b"smessage", CONTROL, COPIES + announcement))
    server.send(reply(b"message", b"a", b"x") + reply(b"message", b"b", b"x"))
    assert server.messages == [([b"a"], b"a", b"x"), ([b"b"], b"b", b"x")]


def test_what_stands_between_ends_the_copies(server: Server) -> None:
    server.subscribe("a", "b")
    server.send(announce(b"x", "a", "b") + reply(b"subscribe", b"c", 3))
    server.send(reply(b"message", b"a", b"x"))
    assert server.messages == [([b"a"], b"a", b"x")]


def test_without_the_channel_for_orders_copies_are_published_alone(server: Server) -> None:
    done = fate(publish(server.link, [publication(["a", "b"], "x")]))
    for _ in range(2):  # sharded, then plain
        server.read()
        server.send(b"+OK\r\n-NOPERM no\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT\r\n")
    words: list[tuple[bytes, ...]] = [
        (b"MULTI",),
        (b"PUBLISH", b"a", b"x"),
        (b"PUBLISH", b"b", b"x"),
        (b"EXEC",),
    ]
    assert server.read() == b"".join(reply(*each) for each in words)
    server.send(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n" + reply(1, 1))
    assert done == [[None]]


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
    server = Server(kind=redis_wire.publishing)
    ended = fate(server.link.ended)
    server.link.log_in()
    server.send(b"+PONG\r\n" + redis_wire.MASTER)
    server.read()
    server.clock.advance(5)
    assert server.read() == reply(b"ROLE")
    server.send(redis_wire.MASTER)
    server.clock.advance(5)
    server.send(reply(b"slave", b"10.0.0.9", 6379, b"connected", 0))
    assert isinstance(ended[0], WrongServer)


def test_a_user_without_the_right_to_ask_is_served() -> None:
    server = Server(kind=redis_wire.publishing)
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
