"""What is published in Redis or RabbitMQ arrives as it was sent, in order, at every instance."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import until
from tests.harness.upstreams import RabbitUpstream, RedisUpstream, Upstream
from tests.integration.conftest import Serve


def next_message(client: Subscriber) -> str:
    """The data of the next event that is not a gap."""
    while (event := client.event()).type == "sse-gap":
        pass
    return event.data


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_messages_arrive_with_the_exact_bytes(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options)
    with Subscriber(server.url, "base") as client, Subscriber(server.url, "grüße") as other:
        messages = ["[1, 2, 3]", "42", "007", "1.50", "", "blå 日本", "true", "-1e5", " x "]
        upstream.publish("base", *messages)
        assert client.data(len(messages)) == messages
        upstream.publish("grüße", "é", "ü")
        assert other.data(2) == ["é", "ü"]
        assert client.pending() == []


def test_a_message_that_is_not_utf8_is_refused_with_one_line(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options)
    with Subscriber(server.url, "base") as client:
        upstream.publish("base", b"\xff\xfe", "next")
        assert client.event().data == "next"
    assert server.log.count("'base' is not UTF-8") == 1


def test_ten_thousand_messages_at_once_arrive_in_order(
    serve: Serve, upstream: RedisUpstream | RabbitUpstream
) -> None:
    server = serve(*upstream.options, "--client-buffer=10000000")
    messages = [str(n) for n in range(10_000)]
    with Subscriber(server.url, "base") as client:
        upstream.publish_many("base", messages)
        assert client.data(10_000) == messages


@pytest.mark.parametrize("character", ["x", "é", "語"])
def test_a_body_of_a_megabyte_arrives(serve: Serve, upstream: Upstream, character: str) -> None:
    server = serve(*upstream.options)
    message = character * (1_000_000 // len(character.encode()))
    with Subscriber(server.url, "base") as client:
        upstream.publish("base", message, "next")
        assert client.data(2) == [message, "next"]


def test_publish_through_the_server_goes_to_the_broker(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options, "--http-publish=1", "--http-secret=abc")
    other = serve(*upstream.options)
    with Subscriber(other.url, "base") as client, Subscriber(other.url, "grüße") as second:
        publish(server.url, ["base", "grüße"], "blå", key="abc")
        assert client.event().data == second.event().data == "blå"
        wrong = request("POST", f"{server.url}/publish", "channel=base&message=x&key=b", FORM)
        assert wrong.status == 401
        megabyte = "é" * 150_000
        publish(server.url, "base", megabyte, key="abc")
        assert client.event().data == megabyte
    assert request("POST", f"{other.url}/publish", "channel=base&message=x", FORM).status == 404


@pytest.mark.slow
def test_three_instances_are_one_stream(serve: Serve, upstream: RedisUpstream | RabbitUpstream) -> None:
    servers = [serve(*upstream.options, "--http-publish=1") for _ in range(3)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Subscriber(server.url, ["base", f"own-{n}"]))
            for n, server in enumerate(servers * 2)
        ]
        native = [f"native {n}" for n in range(1000)]
        upstream.publish_many("base", native)
        for client in clients:
            assert client.data(1000) == native
        posted = [f"posted {n}" for n in range(1000)]
        for n, message in enumerate(posted):
            publish(servers[n % 3].url, "base", message)
        for client in clients:
            assert client.data(1000) == posted
        for n, client in enumerate(clients):
            upstream.publish(f"own-{n}", "the end")
            assert client.event().data == "the end"


def test_500_channels_that_are_left_at_once_leave_nothing_behind(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options, "--linger=0")
    with Subscriber(server.url, "stays-0") as stays, ExitStack() as stack:
        clients = [Subscriber(server.url, [f"channel-{n}", f"half-{n % 250}"]) for n in range(500)]
        for client in clients:
            stack.callback(client.close)
        for client in clients[::2]:
            client.close()  # whether or not its stream is open yet
        for client in clients[1::2]:
            client.wait_open()
        # RabbitMQ may take longer for so many queues than clients wait: they receive a gap then.
        until(lambda: "channel-499" in upstream.subscriptions(), "the last one is subscribed")
        upstream.publish("channel-499", "here")
        assert next_message(clients[499]) == "here"
        for client in clients[1::2]:
            client.close()
        with Subscriber(server.url, "stays-1") as too:
            until(lambda: upstream.subscriptions() == {"stays-0", "stays-1"}, "only two are left")
            upstream.publish("stays-0", "a")
            upstream.publish("stays-1", "b")
            assert (stays.event().data, too.event().data) == ("a", "b")
