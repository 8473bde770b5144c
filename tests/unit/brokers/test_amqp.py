"""What the AMQP broker makes of messages."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers import amqp
from cyclone_sse.brokers.amqp import AmqpBroker
from cyclone_sse.brokers.amqp_protocol import AmqpMessage
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from cyclone_sse.options import SUBSCRIBER_RULES
from tests.unit.brokers.links import Client


def broker(kind: str, *channels: str) -> AmqpBroker:
    """A broker with a client that wants these channels."""
    made = AmqpBroker({"amqp-exchange-type": kind}, reactor=Clock())
    made.add_client(Client(), channels)
    return made


def held(broker: AmqpBroker, *channels: str) -> list[Event]:
    """The events that the history has of these channels."""
    return list(broker.hub.history.since(0, channels))


def message(
    key: str, body: bytes = b"x", type: str | None = None, id: str | None = None, *copies: str
) -> Any:
    headers = {"CC": [name.encode() for name in copies]} if copies else {}
    return AmqpMessage("exchange", key, body, type, id, headers)


def deliver(broker: AmqpBroker, key: str, *others: Any, type: str | None = None) -> set[str]:
    """A message comes in; in which channels' history it is."""
    broker.message_received(message(key, b"x", type, None, *others))
    names = [each.channel for each in broker.subscriptions]
    return {name for name in names if held(broker, name)}


@pytest.mark.parametrize(
    ("kind", "key", "heard"),
    [
        ("direct", "news.a", {"news.a"}),
        ("direct", "news.*", {"news.*"}),
        ("direct", "other", set()),
        ("topic", "news.a", {"news.a", "news.*", "#"}),
        ("topic", "news.*", {"news.*", "#"}),
        ("topic", "other", {"#"}),
        ("fanout", "other", {"news.a", "news.*", "#"}),
    ],
)
def test_a_message_is_one_event_of_all_the_channels_it_is_for(kind: str, key: str, heard: set[str]) -> None:
    made = broker(kind, "news.a", "news.*", "#")
    assert deliver(made, key) == heard
    assert len(held(made, "news.a", "news.*", "#")) == bool(heard)


def test_patterns_for_the_same_names_are_one_binding() -> None:
    made = broker("topic", "news.#.*", "news.*.#.#", "news.*.#")
    assert [each.channel for each in made.subscriptions] == ["news.*.#"]
    assert deliver(made, "news.a.b") == {"news.*.#"}


def test_a_pattern_without_clients_is_not_matched() -> None:
    made = AmqpBroker({"amqp-exchange-type": "topic", "linger": 0}, reactor=Clock())
    client = Client()
    made.add_client(client, ["#", "a"])
    made.remove_client(client)
    made.add_client(client, "a")
    assert deliver(made, "a") == {"a"}
    assert len(made._topics) == 0


def test_a_type_that_is_none_for_us_is_left_out() -> None:
    made = broker("direct", "a")
    for type in ("price", "two\nlines", "sse-gap", "x" * 101, "", None):
        deliver(made, "a", type=type)
    assert [event.type for event in held(made, "a")] == ["price", None, None, None, None, None]


def test_an_order_comes_by_an_exchange_of_its_own() -> None:
    class Obeying(AmqpBroker):
        def obey(self, order: Any) -> int:
            orders.append(order)
            return 0

    orders: list[Any] = []
    made = Obeying({"amqp-exchange-type": "fanout"}, reactor=Clock())
    made.add_client(Client(), ["a"])
    made.message_received(AmqpMessage("sse-cyclone-server.control", "", b'{"end": {}}', None, None, {}))
    assert orders == [{"end": {}}]
    assert not held(made, "a")


def test_a_retry_is_refused_by_name_since_amqp_has_no_place_for_it() -> None:
    with pytest.raises(Refusal, match="retry"):
        broker("direct").publish_all([publication("a", "x", type="t", retry=5)])


def test_copies_of_one_message_are_one_event() -> None:
    made = broker("direct", "a", "b", "c")
    assert deliver(made, "a", "b", "elsewhere") == {"a", "b"}
    assert len(held(made, "a", "b", "c")) == 1
    made = broker("topic", "a.*", "b", "#")
    assert deliver(made, "a.x", "b") == {"a.*", "b", "#"}
    assert len(held(made, "a.*", "b", "#")) == 1


@pytest.mark.parametrize("headers", [{"CC": 5}, {"CC": b"a"}, {"CC": [1, None, b"\xff"]}, {"x": 1}])
def test_odd_headers_change_nothing(headers: dict[str, Any]) -> None:
    made = broker("direct", "a")
    made.message_received(AmqpMessage("exchange", "a", b"x", None, None, headers))
    assert len(held(made, "a")) == 1


def test_a_message_id_counts_once_for_its_time() -> None:
    made = broker("direct", "a", "b")
    for id in ("k1", "k1", "k2", None, None):
        made.message_received(message("a", b"x", None, id))
    made.message_received(message("b", b"x", None, "k1"))  # one of another program, to another channel
    assert (len(held(made, "a")), len(held(made, "b"))) == (4, 1)
    assert isinstance(made.reactor, Clock)
    made.reactor.advance(made.settings["idempotency-ttl"])
    made.message_received(message("a", b"x", None, "k1"))
    assert len(made._seen) == 1


def test_an_empty_message_id_is_none() -> None:
    made = broker("direct", "a")
    for _ in range(2):
        made.message_received(message("a", b"x", None, ""))
    assert len(held(made, "a")) == 2


def test_message_ids_whose_time_is_over_are_forgotten_some_with_each_message() -> None:
    made = broker("direct", "a")
    count = 3 * amqp._FORGOTTEN_AT_ONCE
    for number in range(count):
        made.message_received(message("a", b"x", None, f"k{number}"))
    assert isinstance(made.reactor, Clock)
    made.reactor.advance(made.settings["idempotency-ttl"])
    left = []
    for _ in range(4):
        made.message_received(message("a", b"x", None, f"k{count - 1}"))
        left.append(len(made._seen))
    assert left == [count - amqp._FORGOTTEN_AT_ONCE, count // 3, 1, 1]
    assert len(held(made, "a")) == 1, "its time was over, but is not any more"


def test_message_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp, "MAX_SEEN", 3)
    made = broker("direct", "a")
    for number in range(10):
        made.message_received(message("a", b"x", None, f"k{number}"))
    assert len(made._seen) <= 4


def test_a_heartbeat_is_no_event() -> None:
    made = broker("topic", "#")
    made.message_received(message("any", b"token", "sse-heartbeat"))
    assert not held(made, "#")


@pytest.mark.parametrize("rule", SUBSCRIBER_RULES)
def test_fanout_with_private_channels_is_refused_at_the_start(rule: str) -> None:
    with pytest.raises(ValueError, match="fanout"):
        AmqpBroker({"amqp-exchange-type": "fanout", rule: "any"}, reactor=Clock())
    AmqpBroker({"amqp-exchange-type": "direct", rule: "any"}, reactor=Clock())


def test_a_message_from_the_broker_is_bounded(log: list[str]) -> None:
    made = AmqpBroker({"max-body": 10}, reactor=Clock())
    made.add_client(Client(), ["a"])
    for _ in range(3):
        made.message_received(message("a", b"x" * 11))
    made.message_received(message("a", b"x" * 10))
    assert len(held(made, "a")) == 1
    assert log == [
        "a message in 'a' cannot be sent, 11 bytes are more than --max-body: dropped; there may be more"
    ]


def test_time_and_exception_of_an_event_are_headers() -> None:
    made = broker("direct", "a")
    headers: list[dict[str, Any]] = [
        {"ttl": 5, "except": b"me"},
        {"ttl": b"2.5"},
        {"ttl": b"soon", "except": 7},
        {"ttl": -1, "except": b"\xff"},
        {"ttl": float("nan"), "except": b"x" * 65},
    ]
    for each in headers:
        made.message_received(AmqpMessage("exchange", "a", b"x", None, None, each))
    assert [event.excluded for event in held(made, "a")] == ["me", None, None, None, None]


@pytest.mark.parametrize(
    ("value", "kept"), [(True, True), (1, True), (b"1", True), (b"0", False), (None, False)]
)
def test_a_header_makes_an_event_the_state(value: Any, kept: bool) -> None:
    made = broker("direct", "a")
    made.message_received(AmqpMessage("exchange", "a", b"x", None, None, {"keep": value}))
    assert (made.hub.states.get("a") is not None) == kept
