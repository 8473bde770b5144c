"""A connection that receives from an AMQP server, which is played with pika's frames: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

import pika.frame
import pika.spec as amqp
import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from cyclone_sse.brokers.amqp_protocol import AmqpMessage
from cyclone_sse.brokers.amqp_subscriber import AmqpSubscriberFactory
from cyclone_sse.brokers.amqp_wire import QueueDeleted
from cyclone_sse.brokers.link import NotAllowed
from tests.unit.brokers.amqp_server import Server, fate

# txAMQP 0.8.2 still ends its generators in the old way
pytestmark = pytest.mark.filterwarnings("ignore:twisted.internet.defer.returnValue:DeprecationWarning")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def messages() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def server(clock: Clock, messages: list[tuple[Any, ...]]) -> Server:
    """A connection that receives, logged in."""
    server = Server(
        AmqpSubscriberFactory(lambda *message: messages.append(message), heartbeat=10, reactor=clock)
    )
    server.log_in()
    server.get_ready()
    assert server.greeted.called
    assert not server.errors
    return server


def test_the_login_says_everything_in_bytes(clock: Clock) -> None:
    how: dict[str, Any] = {"username": "mäx", "password": "größe", "vhost": "/ü", "exchange": "é"}
    how |= {"exchange_type": "topic", "heartbeat_key": "proof"}
    server = Server(AmqpSubscriberFactory(lambda *_: None, **how, channel=7, heartbeat=12, reactor=clock))
    start, tune, opened, channel, exchange, queue = server.log_in(channel=7)
    assert (start.mechanism, start.response) == ("PLAIN", "\0mäx\0größe".encode())
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 12)
    assert opened.virtual_host == "/ü"
    assert isinstance(channel, amqp.Channel.Open)
    assert (exchange.exchange, exchange.type) == ("é", "topic")
    assert not any([exchange.passive, exchange.durable, exchange.auto_delete, exchange.internal])
    assert (queue.queue, queue.exclusive, queue.auto_delete, queue.durable) == ("", True, True, False)
    assert not server.greeted.called
    consume, channel, proof, control, bind = server.get_ready(channel=7, bindings=6)
    assert (proof.queue, proof.exchange, proof.routing_key) == ("amq.gen-1", "é", "proof")
    assert (consume.queue, consume.no_ack) == ("amq.gen-1", True)
    assert isinstance(channel, amqp.Channel.Open)
    assert (control.exchange, control.type) == ("é.control", "fanout")
    assert (bind.queue, bind.exchange, bind.routing_key) == ("amq.gen-1", "é.control", "")
    assert server.greeted.called
    assert not server.errors


def test_a_silent_end_at_the_login_is_called_what_it_is(clock: Clock) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
    server.send(amqp.Connection.Start(0, 9, {}, "PLAIN", "en_US"), channel=0)
    server.transport.loseConnection()
    assert "wrong user name or password?" in str(server.errors[0])


def test_what_the_server_says_at_the_login_is_the_error(clock: Clock) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
    server.send(amqp.Connection.Start(0, 9, {}, "PLAIN", "en_US"), channel=0)
    server.send(amqp.Connection.Tune(2047, 131072, 60), channel=0)
    server.send(amqp.Connection.Close(530, "NOT_ALLOWED - vhost /x not found", 10, 40), channel=0)
    assert str(server.errors[0]) == "NOT_ALLOWED - vhost /x not found"


def test_a_refusal_of_the_queue_is_the_same_error_each_time(clock: Clock) -> None:
    said = set()
    for name in ("amq.gen-Y3Qf_o", "amq.gen-PjfW5W"):
        server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
        server.log_in()
        refusal = f"ACCESS_REFUSED - access to queue '{name}' in vhost '/' refused for user 'app'"
        server.send(amqp.Channel.Close(403, refusal, 60, 20))
        said.add(str(server.errors[0]))
    assert said == {"ACCESS_REFUSED - access to queue 'amq.gen-...' in vhost '/' refused for user 'app'"}


def test_what_the_server_says_when_it_closes_the_channel_is_the_error(clock: Clock) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
    server.send(amqp.Connection.Start(0, 9, {}, "PLAIN", "en_US"), channel=0)
    server.send(amqp.Connection.Tune(2047, 131072, 60), channel=0)
    server.send(amqp.Connection.OpenOk(), channel=0)
    server.send(amqp.Channel.OpenOk())
    server.send(amqp.Channel.Close(406, "PRECONDITION_FAILED - type", 40, 10))
    assert str(server.errors[0]) == "PRECONDITION_FAILED - type"
    assert server.transport.disconnecting or not server.transport.connected


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n" * 300, b"\x09\0\0\0\0\0\0\0", b"\1\0\0\0\0\0\0\0"]
)
def test_what_is_not_amqp_is_given_up(clock: Clock, data: bytes) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
    server.link.dataReceived(data)
    assert "not AMQP" in str(server.errors[0])
    assert not server.transport.connected


def keys(sent: list[Any]) -> list[tuple[str, bool]]:
    """The routing keys of these commands, each with whether it is bound."""
    assert all(each.queue == "amq.gen-1" and each.exchange == "sse-cyclone-server" for each in sent)
    return [(each.routing_key, isinstance(each, amqp.Queue.Bind)) for each in sent]


def test_a_subscription_is_a_binding_and_those_that_follow_wait(server: Server) -> None:
    first = fate(server.link.subscribe("é" * 3))
    second, third = fate(server.link.subscribe("b")), fate(server.link.unsubscribe("b"))
    assert keys(server.read()) == [("ééé", True)]
    server.send(amqp.Queue.BindOk(), channel=2)
    assert (first, second) == ([None], [])
    assert keys(server.read()) == [("b", True), ("b", False)]
    server.send(amqp.Queue.BindOk(), channel=2)
    server.send(amqp.Queue.UnbindOk(), channel=2)
    assert (second, third) == ([None], [None])


def test_a_binding_that_is_refused_hurts_no_other(server: Server, messages: list[tuple[Any, ...]]) -> None:
    names = ["a", "b", "secret", "c", "d"]
    first = fate(server.link.subscribe("first"))
    server.read()
    fates = [fate(server.link.subscribe(name)) for name in names]
    server.send(amqp.Queue.BindOk(), channel=2)
    assert (first, len(server.read())) == ([None], 5)
    for _ in range(2):
        server.send(amqp.Queue.BindOk(), channel=2)
    server.send(amqp.Channel.Close(403, "ACCESS_REFUSED - no", 50, 20), channel=2)
    done, opened = server.read()
    assert (type(done), type(opened)) == (amqp.Channel.CloseOk, amqp.Channel.Open)
    server.deliver("a", b"meanwhile")
    assert len(messages) == 1
    server.send(amqp.Channel.OpenOk(), channel=2)
    assert keys(server.read()) == [("c", True), ("d", True)]
    for _ in range(2):
        server.send(amqp.Queue.BindOk(), channel=2)
    assert [str(result) for (result,) in fates] == ["None", "None", "ACCESS_REFUSED - no", "None", "None"]
    assert server.transport.connected


def test_what_is_wrong_with_a_binding_and_no_refusal_starts_all_over(server: Server) -> None:
    gone, done = fate(server.link.ended), fate(server.link.subscribe("a"))
    server.send(amqp.Channel.Close(404, "NOT_FOUND - no exchange", 50, 20), channel=2)
    assert "NOT_FOUND" in str(done[0])
    assert "NOT_FOUND" in str(gone[0])


def test_a_server_that_lets_no_orders_through_is_used_without(clock: Clock) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, reactor=clock))
    server.log_in()
    server.send(amqp.Queue.DeclareOk("amq.gen-1", 0, 0))
    server.send(amqp.Basic.ConsumeOk("tag"))
    server.send(amqp.Channel.OpenOk(), channel=2)
    server.send(amqp.Queue.BindOk(), channel=2)
    server.send(amqp.Channel.Close(403, "ACCESS_REFUSED", 40, 10), channel=2)
    assert not server.greeted.called
    server.send(amqp.Channel.OpenOk(), channel=2)
    assert server.greeted.called
    assert not server.errors


def test_a_fanout_exchange_is_bound_once(clock: Clock) -> None:
    server = Server(AmqpSubscriberFactory(lambda *_: None, exchange_type="fanout", reactor=clock))
    server.log_in()
    sent = server.get_ready(fanout=True)
    assert keys(sent[2:3]) == [("", True)]
    assert fate(server.link.subscribe("a")) == fate(server.link.unsubscribe("a")) == [None]
    assert server.read() == []


def test_many_subscriptions_fail_together_when_the_connection_is_lost(server: Server) -> None:
    # txAMQP ends calls one within the other: a few hundred that wait on it are a RecursionError.
    fates = [fate(server.link.subscribe(str(n))) for n in range(3000)]
    server.transport.abortConnection()
    assert {type(result) for (result,) in fates} == {ConnectionLost}
    assert fate(server.link.subscribe("later"))[0].args == ()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"plain"],
        [],
        ["é".encode()],
        ["日本".encode() * 20_000, b"end"],
        ["é".encode()[:1], "é".encode()[1:]],
        [b"\xff\xfe\0"],
        [b"42"],
    ],
)
def test_any_bytes_arrive_and_the_next_message_too(
    server: Server, messages: list[tuple[Any, ...]], pieces: list[bytes]
) -> None:
    server.deliver("a", *pieces)
    server.deliver("b", b"next")
    assert messages == [("exchange", "a", b"".join(pieces), None), ("exchange", "b", b"next", None)]


def test_the_type_of_a_message_comes_along(server: Server, messages: list[tuple[Any, ...]]) -> None:
    server.deliver("a", b"x", type="é")
    server.deliver("", b"{}", exchange="sse-cyclone-server.control")
    assert messages == [("exchange", "a", b"x", "é"), ("sse-cyclone-server.control", "", b"{}", None)]


def test_messages_in_one_piece_or_byte_by_byte_are_the_same(
    server: Server, messages: list[tuple[Any, ...]]
) -> None:
    frames = [
        pika.frame.Method(1, amqp.Basic.Deliver("a", 1, False, "exchange", "other")),
        pika.frame.Header(1, 3, amqp.BasicProperties()),
        pika.frame.Body(1, "é".encode()),
        pika.frame.Body(1, b"x"),
    ]
    stream = b"".join(frame.marshal() for frame in frames)
    for n in range(len(stream)):
        server.link.dataReceived(stream[n : n + 1])
    server.link.dataReceived(stream * 10)
    assert messages == [("exchange", "other", "éx".encode(), None)] * 11


def test_a_deliver_that_fails_does_not_end_the_connection(clock: Clock) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    server = Server(AmqpSubscriberFactory(fail, reactor=clock))
    server.log_in()
    server.get_ready()
    server.deliver("a", b"x")
    assert server.transport.connected
    assert not server.transport.disconnecting


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "\ud800"])
def test_a_name_that_amqp_cannot_carry_is_an_error_and_sends_nothing(server: Server, name: str) -> None:
    for done in (server.link.subscribe(name), server.link.unsubscribe(name)):
        assert isinstance(fate(done)[0], NotAllowed)
    assert server.read() == []


def test_silence_for_two_heartbeats_ends_the_connection(server: Server, clock: Clock) -> None:
    gone = fate(server.link.ended)
    for _ in range(5):
        clock.advance(10)
        server.link.dataReceived(pika.frame.Heartbeat().marshal())
    assert "heartbeat" in server.read()
    clock.advance(19)
    assert gone == []
    clock.advance(1)
    assert str(gone[0]) == "no heartbeat"
    assert not clock.getDelayedCalls()


def test_leaving_says_good_bye_and_does_not_wait_for_ever(server: Server, clock: Clock) -> None:
    left = fate(server.link.log_out())
    assert isinstance(server.read()[-1], amqp.Connection.Close)
    assert left == []
    clock.advance(1)
    assert left == [None]
    assert not server.transport.connected


def test_a_queue_that_is_deleted_ends_the_connection(server: Server) -> None:
    ended = fate(server.link.ended)
    server.send(amqp.Basic.Cancel("tag", True))
    assert isinstance(ended[0], QueueDeleted)


def test_the_headers_of_a_message_come_along(clock: Clock) -> None:
    received: list[AmqpMessage] = []
    server = Server(AmqpSubscriberFactory(lambda *_: None, receive=received.append, reactor=clock))
    server.log_in()
    server.get_ready()
    server.deliver("a", b"x", headers={"CC": ["b"], "odd": None}, message_id="k")
    server.deliver("a", b"y")
    (first, second) = received
    assert (first.key, first.body, first.id) == ("a", b"x", "k")
    assert first.headers["CC"] == [b"b"]
    assert (second.id, second.headers) == (None, {})
