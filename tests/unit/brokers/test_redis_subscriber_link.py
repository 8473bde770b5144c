"""A connection to Redis that subscribes, and a message that comes in several copies: it is one event."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.pattern_set import PatternSet
from cyclone_sse.brokers.redis_link import CONTROL, COPIES, COPIES_END
from tests.unit.brokers.redis_wire import Server, fate, reply


@pytest.fixture
def server() -> Server:
    return Server()


END = reply(b"smessage", CONTROL, COPIES_END)


def announce(message: bytes) -> bytes:
    return reply(b"smessage", CONTROL, COPIES + b"%d" % zlib.crc32(message))


def test_announced_copies_are_one_event_however_the_reads_fall(server: Server) -> None:
    server.subscribe("a", "b", "a*")
    copies = announce(b"x") + reply(b"message", b"a", b"x") + reply(b"pmessage", b"a*", b"a", b"x")
    copies += reply(b"message", b"b", b"x") + reply(b"pmessage", b"a*", b"ac", b"x") + END
    for n in range(len(copies) + 1):
        server.messages.clear()
        server.send(copies[:n])
        server.send(copies[n:])
        assert server.messages == [([b"a", b"a*", b"b"], b"a", b"x")]


def test_announced_copies_are_compared_with_no_pattern(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.subscribe("a", "b", "a*")
    monkeypatch.setattr(PatternSet, "matching", None)  # very many channels and patterns take seconds
    server.send(announce(b"x") + reply(b"message", b"a", b"x") + reply(b"pmessage", b"a*", b"a", b"x") + END)
    assert server.messages == [([b"a", b"a*"], b"a", b"x")]


def test_the_same_text_published_again_is_another_event(server: Server) -> None:
    server.subscribe("a", "b")
    once = announce(b"x") + reply(b"message", b"a", b"x") + reply(b"message", b"b", b"x") + END
    server.send(once + once + reply(b"message", b"b", b"x"))
    both = [b"a", b"b"]
    assert server.messages == [(both, b"a", b"x"), (both, b"a", b"x"), ([b"b"], b"b", b"x")]


@pytest.mark.parametrize("between", [b"y", b"", None])
def test_an_announcement_without_an_end_holds_nothing_back(server: Server, between: bytes | None) -> None:
    server.subscribe("a", "b")
    server.send(announce(b"x") + reply(b"message", b"a", b"x"))
    server.send(announce(b"z") if between is None else reply(b"message", b"b", between))
    assert server.messages[0] == ([b"a"], b"a", b"x")
    assert server.messages[1:] == ([] if between is None else [([b"b"], b"b", between)])


@pytest.mark.parametrize(
    "announcement",
    [b"", b"end", b"0", b"-1", b"1.5", b"[1]", b"9" * 5000, b"\xff"],
)
def test_an_announcement_that_does_not_fit_changes_nothing(server: Server, announcement: bytes) -> None:
    server.subscribe("a", "b")
    server.send(reply(b"smessage", CONTROL, COPIES + announcement))
    server.send(reply(b"message", b"a", b"x") + reply(b"message", b"b", b"x"))
    assert server.messages == [([b"a"], b"a", b"x"), ([b"b"], b"b", b"x")]


def test_what_stands_between_ends_the_copies(server: Server) -> None:
    server.subscribe("a", "b")
    server.send(announce(b"x") + reply(b"message", b"a", b"x") + reply(b"subscribe", b"c", 3))
    server.send(reply(b"message", b"b", b"x") + END)
    assert server.messages == [([b"a"], b"a", b"x"), ([b"b"], b"b", b"x")]


@pytest.mark.parametrize(
    "message", [b"42", b"007", b"1.50", b"", b"\xff\xfe", "é".encode(), b"-1e5", b"a\r\nb", b"x" * 100_000]
)
def test_a_message_arrives_as_it_was_sent(server: Server, message: bytes) -> None:
    server.subscribe("12", "base")
    server.send(reply(b"message", b"12", message) + reply(b"message", b"base", b"next"))
    assert server.messages == [([b"12"], b"12", message), ([b"base"], b"base", b"next")]


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


def test_a_name_that_is_not_unicode_is_an_error(server: Server) -> None:
    assert isinstance(fate(server.link.subscribe("\ud800"))[0], NotAllowed)
    assert server.read() == b""


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
    server.subscribe("*")
    server.send(reply(b"message", CONTROL, b"{}") + reply(b"pmessage", b"*", CONTROL, b"{}"))
    assert server.messages == [([], CONTROL, b"{}")] * 2
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
