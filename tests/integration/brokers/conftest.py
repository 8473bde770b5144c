"""Fixtures that hand out a Redis and a RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.servers import RabbitServer, RedisServer
from tests.harness.upstreams import RabbitUpstream, RedisUpstream, Upstream


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisUpstream:
    """A Redis for this test alone."""
    return RedisUpstream(redis_server)


@pytest.fixture
def rabbit(rabbit_server: RabbitServer) -> Iterator[RabbitUpstream]:
    """The RabbitMQ of all tests, running."""
    if not rabbit_server.running:
        rabbit_server.start()
    upstream = RabbitUpstream(rabbit_server)
    yield upstream
    rabbit_server.resume()
    upstream.close()


@pytest.fixture(params=["redis", "amqp"])
def upstream(request: pytest.FixtureRequest) -> Upstream:
    """Each of the two, one after the other."""
    return request.getfixturevalue("redis" if request.param == "redis" else "rabbit")  # type: ignore[no-any-return]
