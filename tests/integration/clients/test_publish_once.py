"""What the clients publish is published once, over lost answers, kills and restarts."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from cyclone_sse_client import Message, Publisher
from cyclone_sse_client.aio import AsyncPublisher

from tests.harness.clients import Subscriber
from tests.harness.docs import shown
from tests.harness.scripted import lossy
from tests.harness.servers import RedisServer, SseServer
from tests.integration.clients.test_php import call, php
from tests.integration.clients.test_publisher import Both
from tests.integration.conftest import Serve

PYTHON, PHP = "clients/python/README.md", "clients/php/README.md"


@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
def test_the_same_key_publishes_once(server: SseServer, kind: type) -> None:
    with Subscriber(server.url, "a") as client, Both(kind, server.url) as publisher:
        first = publisher.publish("a", "x", idempotency_key="order-7")
        assert publisher.publish("a", "x", idempotency_key="order-7").ids == first.ids
        messages = [Message(channels="a", message=1), Message(channels=["a"], message=[2])]
        batch = publisher.batch(messages, idempotency_key="k")
        assert publisher.batch(messages, idempotency_key="k").ids == batch.ids
        publisher.publish("a", "end")
        events = client.events(4)
        assert [event.data for event in events] == ["x", "1", "[2]", "end"]
        assert [event.id for event in events[:3]] == [*first.ids, *batch.ids]


@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
def test_answers_that_are_lost_double_nothing(server: SseServer, kind: type) -> None:
    with (
        lossy(server.port) as network,
        Subscriber(server.url, "a") as client,
        Both(kind, network.url) as publisher,
    ):
        ids = [publisher.publish("a", str(number)).id for number in range(20)]
        batch = publisher.batch([Message(channels="a", message=number) for number in range(20, 30)])
        assert publisher.batch([Message(channels="a", message="end")]).ids
        events = client.events(31)
    assert [event.data for event in events] == [*map(str, range(30)), "end"]
    assert [event.id for event in events[:30]] == [*ids, *batch.ids]
    assert len(network.asked) > 22


def test_answers_that_are_lost_double_nothing_in_php(server: SseServer, tmp_path: Path) -> None:
    with lossy(server.port) as network, Subscriber(server.url, "a") as client:
        code = "array_map(fn($n) => $publisher->publish('a', \"$n\")['id'], range(0, 19))"
        ids = call(tmp_path, network.url, code)
        call(tmp_path, server.url, "$publisher->publish('a', 'end')")
        events = client.events(21)
    assert [event.data for event in events] == [*map(str, range(20)), "end"]
    assert [event.id for event in events[:20]] == ids


def restarted(server: SseServer, url: str) -> list[str]:
    """What a client heard of 300 publishes while the server was killed and started again in the middle."""

    def work() -> None:
        for number in range(300):
            publisher.publish("a", str(number))

    with Publisher(url, patience=60) as publisher:
        thread = threading.Thread(target=work, daemon=True)
        with Subscriber(server.url, "a") as published:
            thread.start()
            published.events(20)
        server.kill()
        server.start()
        thread.join()
        publisher.publish("a", "end")
    with Subscriber(server.url, "a", "earliest") as client:
        heard = client.data(1)
        while heard[-1] != "end":
            heard += client.data(1)
    return heard


def test_a_restart_in_the_middle_doubles_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(f"--history-file={tmp_path}/events.sqlite", "--history-size=1000")
    assert restarted(server, server.url) == [*map(str, range(300)), "end"]


def test_a_restart_in_the_middle_doubles_nothing_on_a_stream(serve: Serve, redis_server: RedisServer) -> None:
    server = serve("--broker=redis-stream", f"--redis-port={redis_server.port}", "--history-size=1000")
    assert restarted(server, server.url) == [*map(str, range(300)), "end"]


def test_the_pages_publish(serve: Serve, tmp_path: Path) -> None:
    server = serve("--http-secret=KEY")
    expected = ['{"title":"Hello"}', "goes out as it is", "1", "2"]
    with Subscriber(server.url, ["news", "front", "a", "b"]) as client:
        names: dict[str, Any] = {}
        exec(shown(PYTHON, "publish.py", "python").replace("http://127.0.0.1:8888", server.url), names)
        names["publisher"].close()
        assert [data[-17:] for data in client.data(4)] == expected
        php(tmp_path, shown(PHP, "publish.php", "php").replace("http://127.0.0.1:8888", server.url))
        assert [data[-17:] for data in client.data(4)] == expected
    assert json.loads(expected[0]) == {"title": "Hello"}
