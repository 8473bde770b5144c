"""What tells a connection to AMQP that nothing comes, or that nothing is taken."""

from __future__ import annotations

import pika.spec as amqp
import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers.amqp_protocol import AmqpError, AmqpMessage
from cyclone_sse.brokers.amqp_pubsub import BLOCKED_WAIT, AmqpPublisherFactory, AmqpSubscriberFactory
from cyclone_sse.brokers.amqp_wire import QueueDeleted
from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.delivery.publication import Publication
from tests.unit.brokers.amqp_server import Server, fate

pytestmark = pytest.mark.filterwarnings("ignore:twisted.internet.defer.returnValue:DeprecationWarning")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def messages() -> list[AmqpMessage]:
    return []


@pytest.fixture
def returned() -> list[str]:
    return []


@pytest.fixture
def server(clock: Clock, messages: list[AmqpMessage]) -> Server:
    """A connection that receives."""
    server = Server(AmqpSubscriberFactory(lambda *_: None, receive=messages.append, reactor=clock))
    server.log_in()
    server.get_ready()
    assert server.greeted.called
    return server


@pytest.fixture
def publisher(clock: Clock, returned: list[str]) -> Server:
    """A connection that publishes."""
    factory = AmqpPublisherFactory(
        lambda *_: None, unroutable=returned.append, heartbeat_key="proof", reactor=clock
    )
    server = Server(factory)
    server.log_in()
    server.send(amqp.Confirm.SelectOk())
    assert server.greeted.called
    server.read()
    return server


def test_the_login_announces_what_we_understand(clock: Clock) -> None:
    server = Server(AmqpPublisherFactory(lambda *_: None, reactor=clock))
    server.send(amqp.Connection.Start(0, 9, {"product": "test"}, "PLAIN", "en_US"), channel=0)
    (start,) = server.read()
    assert start.client_properties["capabilities"]["connection.blocked"]
    assert start.client_properties["capabilities"]["consumer_cancel_notify"]


def test_a_queue_that_is_deleted_ends_the_connection(server: Server) -> None:
    ended = fate(server.link.ended)
    server.send(amqp.Basic.Cancel("tag", True))
    assert isinstance(ended[0], QueueDeleted)


def test_a_heartbeat_goes_by_the_way_of_messages(publisher: Server) -> None:
    done = fate(publisher.link.publish_heartbeat("token"))
    publish, size, body = publisher.read()
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("sse-cyclone-server", "proof", True)
    assert (size, body) == (5, b"token")
    publisher.send(amqp.Basic.Ack(1))
    assert done == [None]


def test_a_heartbeat_that_is_for_no_queue_is_reported(publisher: Server, returned: list[str]) -> None:
    publisher.link.publish_heartbeat("token")
    publisher.send(amqp.Basic.Return(312, "NO_ROUTE", "sse-cyclone-server", "proof"), b"tok", b"en")
    assert returned == ["token"]
    assert publisher.transport.connected


def test_a_user_that_may_not_publish_has_no_heartbeat(publisher: Server) -> None:
    done = fate(publisher.link.publish_heartbeat("token"))
    publisher.send(amqp.Channel.Close(403, "ACCESS_REFUSED - write access", 60, 40))
    assert isinstance(done[0], NotAllowed)


def test_a_server_that_takes_nothing_is_known_and_what_waits_fails(publisher: Server, clock: Clock) -> None:
    first, second = (fate(publisher.link.publish([Publication(("a",), b"x")])) for _ in range(2))
    publisher.send(amqp.Connection.Blocked("low on memory"), channel=0)
    assert publisher.link.blocked == "low on memory"
    publisher.send(amqp.Basic.Ack(1))  # the one that it had read
    clock.advance(BLOCKED_WAIT)
    assert first == [[None]]
    assert isinstance(second[0].subFailure.value, AmqpError)
    assert "low on memory" in str(second[0].subFailure.value)
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


def test_names_that_do_not_fit_one_frame_are_several_messages(publisher: Server) -> None:
    names = tuple(f"{n:0250}" for n in range(1000))
    publisher.link.publish([Publication(names, b"x")])
    messages = publisher.read(properties=True)
    found = [
        name
        for publish, properties, _ in zip(messages[::3], messages[1::3], messages[2::3], strict=True)
        for name in (publish.routing_key, *properties.headers["CC"])
    ]
    assert found == list(names)
    assert len(messages) == 3 * 3


def test_the_headers_of_a_message_come_along(server: Server, messages: list[AmqpMessage]) -> None:
    server.deliver("a", b"x", headers={"CC": ["b"], "odd": None}, message_id="k")
    server.deliver("a", b"y")
    (first, second) = messages
    assert (first.key, first.body, first.id) == ("a", b"x", "k")
    assert first.headers["CC"] == [b"b"]
    assert (second.id, second.headers) == (None, {})
