"""Orders that the broker refuses: the answer says that they were not sent."""

from __future__ import annotations

import pytest

from tests.harness.clients import request
from tests.harness.upstreams import RabbitUpstream, RedisUpstream
from tests.integration.brokers.test_faults import FORM
from tests.integration.conftest import Serve

ORDERS = pytest.mark.parametrize("path", ["disconnect", "clear"])


@ORDERS
@pytest.mark.parametrize(
    ("broker", "cause"),
    [
        ("redis", "ACL SETUSER default -spublish -publish"),
        ("redis-stream", "ACL SETUSER default -xadd"),
        ("redis-stream", "CONFIG SET maxmemory 1"),
        ("redis-stream", "REPLICAOF 127.0.0.1 1"),
    ],
)
def test_an_order_that_redis_refuses_is_not_published(
    serve: Serve, redis: RedisUpstream, broker: str, path: str, cause: str
) -> None:
    server = serve(*redis.options, f"--broker={broker}", "--http-publish=1")
    assert request("POST", f"{server.url}/{path}", "channel=a", FORM).status == 200
    redis.server.command(*cause.split())
    answer = request("POST", f"{server.url}/{path}", "channel=a", FORM)
    assert (answer.status, answer.json.get("published")) == (503, False), answer.body


@ORDERS
def test_an_order_that_rabbitmq_refuses_is_not_published(
    serve: Serve, rabbit: RabbitUpstream, path: str
) -> None:
    server = serve(*rabbit.options, "--http-publish=1")
    # Before the first order: RabbitMQ remembers for a while what a channel was allowed to do.
    rabbit.server.control("set_permissions", "guest", ".*", "^(?!.*control)", ".*")
    try:
        answer = request("POST", f"{server.url}/{path}", "channel=a", FORM)
    finally:
        rabbit.server.control("set_permissions", "guest", ".*", ".*", ".*")
    assert (answer.status, answer.json.get("published")) == (503, False), answer.body
