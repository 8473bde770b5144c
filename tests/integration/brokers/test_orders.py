"""POST /disconnect reaches every server that shares the broker, and no client receives it."""

from __future__ import annotations

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.upstreams import RedisUpstream, Upstream
from tests.integration.brokers.test_faults import FORM
from tests.integration.conftest import Serve


@pytest.mark.parametrize("broker", ["redis", "redis-stream", "amqp"])
def test_streams_end_on_every_server(serve: Serve, request_upstream: Upstream, broker: str) -> None:
    options = [*request_upstream.options, f"--broker={broker}", "--http-publish=1"]
    if broker == "amqp":
        options += ["--amqp-exchange-type=fanout", "--amqp-exchange-name=orders"]
    else:
        options += ["--patterns=1"]
    here, there = serve(*options), serve(*options)
    everything = "any" if broker == "amqp" else "*"
    with (
        Subscriber(here.url, "room") as one,
        Subscriber(there.url, "room") as two,
        Subscriber(there.url, "other") as other,
        Subscriber(there.url, everything) as curious,
    ):
        for client in (one, two, other, curious):
            client.wait_open()
        answer = request("POST", f"{here.url}/disconnect", "channel=room", FORM)
        assert answer.status == 200, answer.body
        one.wait_end()
        two.wait_end()
        with Subscriber(there.url, "room") as back:
            publish(here.url, ["room", "other"], "after")
            assert back.event().data == other.event().data == "after"
            assert curious.event().data == "after"  # and no order


@pytest.fixture
def request_upstream(request: pytest.FixtureRequest, broker: str) -> Upstream:
    """The upstream of that broker."""
    upstream: Upstream = request.getfixturevalue("rabbit" if broker == "amqp" else "redis")
    return upstream


def test_what_is_below_the_prefix_stays_there(serve: Serve, redis: RedisUpstream) -> None:
    ours = serve(*redis.options, "--redis-prefix=s*e:", "--patterns=1", "--http-publish=1")
    theirs = serve(*redis.options, "--redis-prefix=other:", "--patterns=1", "--http-publish=1")
    with Subscriber(ours.url, "*") as everything, Subscriber(ours.url, "base") as base:
        redis.publish("base", "outside")
        redis.publish("other:base", "theirs")
        redis.publish("sxe:base", "of a pattern that was none")
        publish(theirs.url, "base", "theirs again")
        redis.publish("s*e:base", "1")
        publish(ours.url, "base", "2")
        assert everything.data(2) == base.data(2) == ["1", "2"]
        assert redis.subscriptions() == {"s*e:base"}
        with Subscriber(theirs.url, "base") as foreign:
            request("POST", f"{ours.url}/disconnect", "channel=base", FORM)
            base.wait_end()
            publish(theirs.url, "base", "still here")
            assert foreign.event().data == "still here"
