"""What the Redis broker makes of messages."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers.redis import RedisBroker
from cyclone_sse.brokers.redis_link import CONTROL
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal


def held(broker: RedisBroker, *channels: str) -> list[str]:
    """The messages that the history has of these channels."""
    return [event.message for event in broker.hub.history.since(0, channels)]


def test_a_message_is_one_event_under_all_its_names() -> None:
    broker = RedisBroker({}, reactor=Clock())
    broker.message_received([b"ab", b"a*"], b"ab", b"x")
    assert held(broker, "ab") == held(broker, "a*") == held(broker, "ab", "a*") == ["x"]


def test_a_blocked_pattern_takes_nothing_from_the_others() -> None:
    class Blocking(RedisBroker):
        def is_pattern_blocked(self, pattern: str) -> bool:
            return pattern == "a*"

    broker = Blocking({}, reactor=Clock())
    broker.message_received([b"a*", b"*b"], b"ab", b"both")
    broker.message_received([b"a*"], b"ac", b"blocked")
    broker.message_received([b"a*"], b"a*", b"the channel of that name")
    assert held(broker, "*b") == ["both"]
    assert held(broker, "a*") == ["the channel of that name"]


def test_an_order_is_never_delivered_as_a_message() -> None:
    class Obeying(RedisBroker):
        def obey(self, order: Any) -> int:
            orders.append(order)
            return 0

    orders: list[Any] = []
    broker = Obeying({}, reactor=Clock())
    broker.message_received([CONTROL, b"*"], CONTROL, b'{"end": {"user": "7"}}')
    broker.message_received([b"*"], CONTROL, b"no JSON")
    broker.message_received([CONTROL], CONTROL, b"[1]")
    assert orders == [{"end": {"user": "7"}}]
    assert held(broker, "*") == []


def test_what_pub_sub_has_no_place_for_is_refused_by_name() -> None:
    broker = RedisBroker({}, reactor=Clock())
    with pytest.raises(Refusal, match="event"):
        broker.publish_all([publication("a", "x"), publication("a", "x", type="price")])
    with pytest.raises(Refusal, match="retry"):
        broker.publish_all([publication("a", "x", retry=5)])


def test_a_name_with_a_star_is_a_pattern() -> None:
    broker = RedisBroker({}, reactor=Clock())
    assert [broker.is_pattern(name) for name in ("a*", "a?", "a")] == [True, False, False]
