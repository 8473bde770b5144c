"""Clients that do not read hurt nobody: memory is bounded, they are cut, and can come back."""

from __future__ import annotations

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


def test_readers_get_everything_and_the_slow_are_cut(serve: Serve) -> None:
    server = serve("--history-bytes=4194304")
    slow = [Subscriber(server.url, receive_buffer=4096).wait_open() for _ in range(SLOW)]
    readers = [Subscriber(server.url).wait_open() for _ in range(10)]
    most = before = server.memory()
    for number in range(MESSAGES):
        publish(server.url, "base", f"{number}@" + "x" * MESSAGE)
        most = max(most, server.memory())
        for reader in readers:
            assert reader.event(30).data.startswith(f"{number}@")
    assert most - before < (SLOW + 4 + 20) * MIB, "a buffer for each of the slow, the history, and some room"
    until(lambda: f"cut off {SLOW} clients" in server.log, what="the slow ones are cut and counted")
    assert subscribers(server) == len(readers)
    for client in slow + readers:
        client.close()


def test_a_client_that_was_cut_can_come_back(serve: Serve) -> None:
    server = serve("--client-buffer=65536", "--history-size=1000")
    slow = Subscriber(server.url, receive_buffer=4096).wait_open()
    sent = 0
    while subscribers(server):
        publish(server.url, "base", f"{sent}@" + "x" * MESSAGE)
        sent += 1
        assert sent < MESSAGES, "it is never cut"
    got = []
    while not slow.ended:
        try:
            got.append(slow.event(5).data)
        except AssertionError:
            assert slow.ended
    slow.close()
    publish(server.url, "base", "last")
    position = slow.last_event_id or slow.headers["last-event-id"]
    with Subscriber(server.url, last_event_id=position) as back:
        got += back.data(sent + 1 - len(got), 30)
    assert [data.partition("@")[0] for data in got] == [*map(str, range(sent)), "last"]


def test_memory_falls_back_when_the_clients_have_left(server: SseServer) -> None:
    def come_and_go() -> int:
        clients = [Subscriber(server.url) for _ in range(500)]
        for client in clients:
            client.wait_open()
        publish(server.url, "base", "x")
        for client in clients:
            client.event()
            client.close()
        until(lambda: subscribers(server) == 0, what="all have left")
        return server.memory()

    first = come_and_go()
    last = max(come_and_go() for _ in range(5))
    assert last - first < 2 * MIB
