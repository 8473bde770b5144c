"""What the clients publish is published once, over lost answers, kills and restarts."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from cyclone_sse_client import Publisher

from tests.harness.clients import Subscriber
from tests.harness.docs import shown
from tests.harness.servers import RedisServer, SseServer
from tests.integration.clients.test_php import php
from tests.integration.conftest import Serve

PYTHON, PHP = "clients/python/README.md", "clients/php/README.md"


def restarted(server: SseServer, url: str) -> list[str]:
    """What a client heard of 300 publishes while the server was killed and started again in the middle."""

    def work() -> None:
        for number in range(300):
            publisher.publish("a", str(number))

    with Publisher(url, patience=60) as publisher:
        thread = threading.Thread(target=work)
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
