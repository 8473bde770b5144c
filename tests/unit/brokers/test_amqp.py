"""What the AMQP broker makes of messages."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers.amqp import AmqpBroker
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from tests.unit.brokers.links import Client


def broker(kind: str, *channels: str) -> AmqpBroker:
    """A broker with a client that wants these channels."""
    made = AmqpBroker({"amqp-exchange-type": kind}, reactor=Clock())
    made.add_client(Client(), channels)
    return made


def held(broker: AmqpBroker, *channels: str) -> list[Event]:
    """The events that the history has of these channels."""
    return list(broker.hub.history.since(0, channels))


def deliver(broker: AmqpBroker, key: str, message: str = "x", type: str | None = None) -> set[str]:
    """A message comes in; in which channels' history it is."""
    broker.message_received("exchange", key, message.encode(), type)
    names = [interest.channel for interest in broker.subscriptions]
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


def test_what_nobody_wants_any_more_is_matched_no_more() -> None:
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
    made.message_received("sse-cyclone-server.control", "", b'{"end": {}}', None)
    assert orders == [{"end": {}}]
    assert not held(made, "a")


def test_a_retry_is_refused_by_name_since_amqp_has_no_place_for_it() -> None:
    with pytest.raises(Refusal, match="retry"):
        broker("direct").publish_all([publication("a", "x", type="t", retry=5)])
