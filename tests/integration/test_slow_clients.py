"""Clients that do not read fast enough: memory is bounded, and they get everything from the history."""

from __future__ import annotations

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve

MESSAGE = 100_000  # bytes
MESSAGES = 200
SLOW = 20
MIB = 1 << 20


def subscribers(server: SseServer) -> int:
    """How many the server counts in `base`."""
    return int(dict(request("GET", f"{server.url}/stats").json).get("base", 0))


@pytest.mark.slow
def test_readers_get_everything_and_the_slow_wait_for_little(serve: Serve) -> None:
    server = serve("--history-bytes=4194304", "--stall-timeout=5")
    slow = [Subscriber(server.url, receive_buffer=4096).wait_open() for _ in range(SLOW)]
    readers = [Subscriber(server.url).wait_open() for _ in range(10)]
    most = before = server.memory()
    for number in range(MESSAGES):
        publish(server.url, "base", f"{number}@" + "x" * MESSAGE)
        most = max(most, server.memory())
        for reader in readers:
            assert reader.event().data.startswith(f"{number}@")
    assert most - before < (SLOW + 4 + 20) * MIB, "a buffer for each of the slow, the history, and some room"
    until(lambda: subscribers(server) == len(readers), "those that do not read are cut off")
    for client in slow + readers:
        client.close()


@pytest.mark.slow
def test_a_client_that_is_slow_gets_everything_from_the_history(serve: Serve) -> None:
    """Far more than --client-buffer waits for it, and nothing of it is lost; its stream goes on."""
    server = serve("--client-buffer=65536", "--history-size=1000")
    slow = Subscriber(server.url, receive_buffer=4096).wait_open()
    for number in range(MESSAGES // 2):
        publish(server.url, "base", f"{number}@" + "x" * MESSAGE)
    got = slow.data(MESSAGES // 2)
    publish(server.url, "base", "last")
    got += slow.data(1)
    assert [data.partition("@")[0] for data in got] == [*map(str, range(MESSAGES // 2)), "last"]
    slow.close()


def test_memory_falls_back_when_the_clients_have_left(server: SseServer) -> None:
    def come_and_go() -> int:
        clients = [Subscriber(server.url) for _ in range(500)]
        for client in clients:
            client.wait_open()
        publish(server.url, "base", "x")
        for client in clients:
            client.event()
            client.close()
        until(lambda: subscribers(server) == 0, "all have left")
        return server.memory()

    first = come_and_go()
    last = max(come_and_go() for _ in range(5))
    assert last - first < 2 * MIB
