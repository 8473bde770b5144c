"""A client that sends all it can harms no other: events arrive meanwhile, and memory stays limited."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.floods import FLOODS, Flood, patterns_that_overlap, streams_that_are_not_read
from tests.harness.process import until
from tests.harness.servers import RedisServer, SseServer
from tests.integration.conftest import Serve

MIB = 1 << 20
EVENTS = 20
ROUNDS = 30  # of each flood, at least
SECONDS = 4.0  # likewise


def check(
    server: SseServer, flood: Callable[[Flood], None], limit: float, send: Callable[[str], object]
) -> None:
    """Let events pass while it floods, and hold the server to so many MiB."""
    with Subscriber(server.url, "quiet").wait_open() as subscriber:
        before = most = server.memory()
        flooding = Flood(server.port, flood)
        try:
            sent = 0
            began = time.monotonic()
            while sent < EVENTS or flooding.rounds < ROUNDS or time.monotonic() - began < SECONDS:
                send(str(sent))
                assert subscriber.event().data == str(sent)
                most = max(most, server.memory())
                sent += 1
                assert flooding.failure is None
        finally:
            flooding.stop()
        assert most - before < limit * MIB
        assert subscriber.pending() == []
    until(lambda: request("GET", f"{server.url}/stats").status == 200, "it still answers")


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_another_s_events_pass(serve: Serve, flood: Callable[[Flood], None]) -> None:
    patience = 1 if flood is streams_that_are_not_read else 60
    server = serve("--client-buffer=262144", f"--stall-timeout={patience}", "--history-bytes=16777216")
    check(server, flood, FLOODS[flood], lambda message: publish(server.url, "quiet", message))


def test_another_s_events_pass_from_redis(serve: Serve, redis_server: RedisServer) -> None:
    server = serve("--broker=redis", f"--redis-port={redis_server.port}", "--patterns=1")
    check(server, patterns_that_overlap, 20, lambda message: redis_server.publish("quiet", message))
