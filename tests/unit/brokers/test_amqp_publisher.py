"""A connection that publishes in an AMQP server, which is played with pika's frames."""

from __future__ import annotations

from typing import Any

import pika.spec as amqp
import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from cyclone_sse.brokers.amqp_protocol import AmqpError
from cyclone_sse.brokers.amqp_publisher import (
    BLOCKED_WAIT,
    PROPERTIES_MAX,
    SENT_AT_ONCE,
    AmqpPublisherFactory,
)
from cyclone_sse.brokers.link import NotAllowed, NotPublished
from cyclone_sse.delivery.publication import Publication, publication
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import MANY
from tests.unit.brokers.amqp_server import Server, fate

pytestmark = pytest.mark.filterwarnings("ignore:twisted.internet.defer.returnValue:DeprecationWarning")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def returned() -> list[str]:
    return []


@pytest.fixture
def publisher(clock: Clock, returned: list[str]) -> Server:
    """A connection that publishes."""
    factory = AmqpPublisherFactory(
        lambda *_: None, unroutable=returned.append, heartbeat_key="proof", reactor=clock
    )
    return ready_publisher(factory)


def ready_publisher(factory: AmqpPublisherFactory, frame_max: int = 131_072) -> Server:
    """A connection that has logged in."""
    server = Server(factory)
    server.log_in(frame_max=frame_max)
    server.send(amqp.Confirm.SelectOk())
    open_own(server)
    assert server.greeted.called
    assert not server.errors
    server.read()
    return server


def open_own(server: Server) -> None:
    """Open the AMQP channel for heartbeats and the exchange of orders."""
    server.send(amqp.Channel.OpenOk(), channel=2)
    server.send(amqp.Confirm.SelectOk(), channel=2)


def test_the_login_announces_what_we_understand(clock: Clock) -> None:
    server = Server(AmqpPublisherFactory(lambda *_: None, reactor=clock))
    server.send(amqp.Connection.Start(0, 9, {"product": "test"}, "PLAIN", "en_US"), channel=0)
    (start,) = server.read()
    assert start.client_properties["capabilities"]["connection.blocked"]
    assert start.client_properties["capabilities"]["consumer_cancel_notify"]


def test_a_heartbeat_goes_by_the_way_of_messages(publisher: Server) -> None:
    done = fate(publisher.link.publish_heartbeat("token"))
    publish, size, body = publisher.read()
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("sse-cyclone-server", "proof", True)
    assert (size, body) == (5, b"token")
    publisher.send(amqp.Basic.Ack(1))  # of another message
    assert done == []
    publisher.send(amqp.Basic.Ack(1), channel=2)
    assert done == [None]


def test_a_heartbeat_that_is_for_no_queue_is_reported(publisher: Server, returned: list[str]) -> None:
    publisher.link.publish_heartbeat("token")
    publisher.send(amqp.Basic.Return(312, "NO_ROUTE", "sse-cyclone-server", "proof"), b"tok", b"en")
    assert returned == ["token"]
    assert publisher.transport.connected


def test_a_heartbeat_that_is_refused_ends_no_message(publisher: Server) -> None:
    for _ in range(2):
        message = fate(publisher.link.publish([Publication(("a",), b"x")]))
        heartbeat = fate(publisher.link.publish_heartbeat("token"))
        publisher.send(amqp.Channel.Close(403, "ACCESS_REFUSED - write access", 60, 40), channel=2)
        assert isinstance(heartbeat[0], NotAllowed)
        open_own(publisher)
        assert message == []
    publisher.send(amqp.Basic.Ack(2, True))
    assert message == [[None]]
    again = fate(publisher.link.publish_heartbeat("token"))
    publisher.send(amqp.Basic.Ack(1), channel=2)
    assert again == [None]


def test_an_order_that_is_refused_ends_no_message(publisher: Server) -> None:
    message = fate(publisher.link.publish([Publication(("a",), b"x")]))
    orders = [fate(publisher.link.publish_order(b"{}"))]
    publisher.send(amqp.Channel.Close(403, "ACCESS_REFUSED - configure access", 40, 10), channel=2)
    orders.append(fate(publisher.link.publish_order(b"{}")))  # the channel is not open again yet
    assert [(type(order), str(order)) for (order,) in orders] == [
        (NotPublished, "ACCESS_REFUSED - configure access")
    ] * 2
    open_own(publisher)
    publisher.send(amqp.Basic.Ack(1))
    assert message == [[None]]


def test_an_error_other_than_a_refusal_starts_all_over(publisher: Server) -> None:
    heartbeat = fate(publisher.link.publish_heartbeat("token"))
    publisher.send(amqp.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40), channel=2)
    assert "NOT_FOUND" in str(heartbeat[0])
    assert not publisher.transport.connected


def test_a_server_that_takes_nothing_is_known_and_what_waits_fails(publisher: Server, clock: Clock) -> None:
    first, second = (fate(publisher.link.publish([Publication(("a",), b"x")])) for _ in range(2))
    publisher.send(amqp.Connection.Blocked("low on memory"), channel=0)
    assert publisher.link.blocked == "low on memory"
    publisher.send(amqp.Basic.Ack(1))  # the one that it had read
    clock.advance(BLOCKED_WAIT)
    assert first == [[None]]
    assert isinstance(second[0], AmqpError)
    assert "low on memory" in str(second[0])
    publisher.send(amqp.Connection.Unblocked(), channel=0)
    assert publisher.link.blocked is None


def test_a_server_that_recovers_at_once_fails_nothing(publisher: Server, clock: Clock) -> None:
    waiting = fate(publisher.link.publish([Publication(("a",), b"x")]))
    publisher.send(amqp.Connection.Blocked("low on memory"), channel=0)
    publisher.send(amqp.Connection.Unblocked(), channel=0)
    clock.advance(BLOCKED_WAIT)
    assert waiting == []


def test_a_message_for_several_channels_is_one(publisher: Server) -> None:
    done = fate(publisher.link.publish([Publication(("a", "é", "c"), b"x", idempotency_key="k 1")]))
    publish, size, body = publisher.read(properties=True)
    assert publish.routing_key == "a"
    assert (size.headers, size.message_id, body) == ({"CC": ["é", "c"]}, "k 1", b"x")
    publisher.send(amqp.Basic.Ack(1))
    assert done == [[None]]


@pytest.mark.parametrize("frame_max", [131_072, 4096])
def test_names_that_do_not_fit_one_frame_are_several_messages(clock: Clock, frame_max: int) -> None:
    publisher = ready_publisher(AmqpPublisherFactory(lambda *_: None, reactor=clock), frame_max)
    names = tuple(f"{n:0250}" for n in range(1000))
    key, type = "k" * 200, "\U0001f600" * 63
    publisher.link.publish([Publication(names, b"x", type, None, 0.5, "c" * 64, True, idempotency_key=key)])
    for _ in range(20):
        clock.advance(0)
    assert largest_frame(publisher.transport.value()) <= frame_max
    messages = publisher.read(properties=True)
    found = [
        name
        for publish, properties, _ in zip(messages[::3], messages[1::3], messages[2::3], strict=True)
        for name in (publish.routing_key, *properties.headers["CC"])
    ]
    assert found == list(names)
    assert len(messages) < 3 * 255 * 1000 / (frame_max - PROPERTIES_MAX - 255) + 3


def largest_frame(data: bytes) -> int:
    """The size of the largest of these frames (AMQP 0-9-1, 4.2.3)."""
    largest = 0
    while data:
        size = int.from_bytes(data[3:7]) + 8
        largest, data = max(largest, size), data[size:]
    return largest


def test_very_many_messages_are_sent_in_slices(publisher: Server, clock: Clock) -> None:
    count = 4 * SENT_AT_ONCE + 1
    done = fate(publisher.link.publish([publication("a", f"{n}") for n in range(count)]))
    bodies = publisher.read()[2::3]
    assert len(bodies) == SENT_AT_ONCE
    publisher.send(amqp.Basic.Ack(SENT_AT_ONCE, True))
    for _ in range(8):
        clock.advance(0)
    bodies += publisher.read()[2::3]
    assert bodies == [f"{n}".encode() for n in range(count)]
    assert done == []
    publisher.send(amqp.Basic.Ack(count, True))
    assert done == [[None] * count]


def test_a_connection_that_is_lost_between_the_slices_fails_them_all(publisher: Server, clock: Clock) -> None:
    done = fate(publisher.link.publish([publication("a", "x")] * (3 * SENT_AT_ONCE)))
    publisher.send(amqp.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
    for _ in range(8):
        clock.advance(0)
    assert "NOT_FOUND" in str(done[0])


def test_a_server_that_takes_nothing_is_sent_no_further_slice(publisher: Server, clock: Clock) -> None:
    done = fate(publisher.link.publish([publication("a", "x")] * (3 * SENT_AT_ONCE)))
    publisher.read()
    publisher.send(amqp.Connection.Blocked("low on memory"), channel=0)
    for _ in range(8):
        clock.advance(0)
    assert publisher.read() == []
    clock.advance(BLOCKED_WAIT)
    assert "low on memory" in str(done[0])


def test_a_publisher_that_gives_up_learns_that_even_after_a_refusal(publisher: Server) -> None:
    waiting = publisher.link.publish([publication("a", "x")] * 2)
    publisher.send(amqp.Basic.Nack(1))
    done = fate(waiting)
    waiting.cancel()
    assert isinstance(done[0], CancelledError)


def test_a_type_that_amqp_cannot_carry_is_refused_and_nothing_sent(publisher: Server) -> None:
    longest = publication("a", "x", type="\U0001f600" * 63)
    too_long = publication("a", "x", type="\U0001f600" * 64)
    (refused,) = fate(publisher.link.publish([longest, too_long]))
    assert (type(refused), refused.status) == (Refusal, 400)
    assert "type" in refused.reason
    assert publisher.read() == []
    done = fate(publisher.link.publish([longest]))
    publisher.send(amqp.Basic.Ack(1))
    assert done == [[None]]


def test_a_mistake_in_a_later_slice_is_refused_before_anything_is_sent(
    publisher: Server, clock: Clock
) -> None:
    wrong = Publication(("a" * 250,), b"x")
    object.__setattr__(wrong, "channels", ("a" * 300,))
    done = fate(publisher.link.publish([publication("a", "x")] * 2 * MANY + [wrong]))
    for _ in range(8):
        clock.advance(0)
    assert isinstance(done[0], Refusal)
    assert publisher.read() == []


def test_publishing_waits_for_the_confirmation(publisher: Server) -> None:
    first = fate(publisher.link.publish([publication("é", "ü", type="é"), publication("b", "ü")]))
    second = fate(publisher.link.publish([publication(["c"], "x" * 200_000)]))
    publish, size, body, _, _, _, _, large, *pieces = publisher.read()
    assert (publish.exchange, publish.routing_key, size, body) == ("sse-cyclone-server", "é", 2, "ü".encode())
    assert (large, b"".join(pieces), max(map(len, pieces))) == (200_000, b"x" * 200_000, 131_064)
    publisher.send(amqp.Basic.Ack(1))
    assert first == []
    publisher.send(amqp.Basic.Ack(2))
    assert (first, second) == ([[None, None]], [])
    publisher.send(amqp.Basic.Ack(3, True))
    assert len(second) == 1
    third, fourth = (
        fate(publisher.link.publish([publication(["a"], "x")])),
        fate(publisher.link.publish([publication(["a"], "x")])),
    )
    publisher.send(amqp.Basic.Ack(5, True))
    assert (len(third), len(fourth)) == (1, 1)


def test_what_is_not_confirmed_has_failed(publisher: Server) -> None:
    refused = fate(publisher.link.publish([publication(["a"], "x")]))
    publisher.send(amqp.Basic.Nack(1))
    assert "rejected the message" in str(refused[0])
    waiting = fate(publisher.link.publish([publication(["a", "b"], "x")]))
    publisher.send(amqp.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
    assert "NOT_FOUND" in str(waiting[0])
    assert "NOT_FOUND" in str(fate(publisher.link.publish([publication(["a"], "x")]))[0])


def test_an_order_has_an_exchange_and_a_channel_of_its_own(publisher: Server) -> None:
    done = fate(publisher.link.publish_order(b"{}"))
    (declare,) = publisher.read()
    assert (declare.exchange, declare.type) == ("sse-cyclone-server.control", "fanout")
    publisher.send(amqp.Exchange.DeclareOk(), channel=2)
    publish, _, body = publisher.read()
    assert (publish.exchange, publish.routing_key, body) == ("sse-cyclone-server.control", "", b"{}")
    assert done == []
    publisher.send(amqp.Basic.Ack(1), channel=2)
    assert done == [None]


@pytest.mark.parametrize("confirmation", [amqp.Basic.Ack(3, True), amqp.Basic.Nack(3, True)])
def test_an_order_does_not_overtake_the_messages_before_it(publisher: Server, confirmation: Any) -> None:
    publisher.link.publish([publication("a", "x")] * 3).addErrback(lambda _: None)
    done = fate(publisher.link.publish_order(b"{}"))
    publisher.send(amqp.Exchange.DeclareOk(), channel=2)
    publisher.link.publish([publication("a", "y")])
    publisher.read()
    publisher.send(amqp.Basic.Ack(2))
    assert publisher.read() == []
    publisher.send(confirmation)
    assert publisher.read()[0].exchange == "sse-cyclone-server.control"
    publisher.send(amqp.Basic.Ack(1), channel=2)
    assert done == [None]


def test_an_order_that_is_refused_when_it_is_published_ends_no_message(publisher: Server) -> None:
    done = fate(publisher.link.publish_order(b"{}"))
    publisher.send(amqp.Exchange.DeclareOk(), channel=2)
    message = fate(publisher.link.publish([publication("a", "x")]))
    publisher.send(amqp.Channel.Close(403, "ACCESS_REFUSED - no right to write", 60, 40), channel=2)
    assert isinstance(done[0], NotPublished)
    assert "no right to write" in str(done[0])
    publisher.send(amqp.Basic.Ack(1))
    assert (message, publisher.link.lost) == ([[None]], None)


def test_an_order_that_waits_is_not_sent_to_a_server_that_takes_nothing(
    publisher: Server, clock: Clock
) -> None:
    publisher.link.publish([publication("a", "x")]).addErrback(lambda _: None)
    done = fate(publisher.link.publish_order(b"{}"))
    publisher.send(amqp.Exchange.DeclareOk(), channel=2)
    publisher.read()
    publisher.send(amqp.Connection.Blocked("low on memory"), channel=0)
    clock.advance(BLOCKED_WAIT)
    assert publisher.read() == []
    assert isinstance(done[0], NotPublished)


def test_a_name_that_amqp_cannot_carry_is_refused_and_nothing_sent(publisher: Server) -> None:
    (refused,) = fate(publisher.link.publish([Publication(("a", "\ud800"), b"x")]))
    assert (type(refused), refused.status) == (Refusal, 400)
    assert publisher.read() == []
