"""Clients of other projects receive and resume: npm's eventsource, httpx-sse, curl.

The tests of browsers are in `tests/integration/browser`.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path

import httpx
import httpx_sse

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import need, until
from tests.harness.servers import SseServer
from tests.integration.browser.site import Site, node_modules
from tests.integration.conftest import Serve

MESSAGES = ['{"x": [1, "ä"]}', "two\nlines", "  spaces", "data: like a field", "\U0001f600", ":", "7"]

# reconnects on its own; writes [id, type, data] of each event as a line of JSON
NODE = """
const {EventSource} = require('eventsource');
const source = new EventSource(process.argv[1]);
const tell = (event) => console.log(JSON.stringify([event.lastEventId, event.type, event.data]));
source.addEventListener('message', tell);
source.addEventListener('sse-gap', tell);
source.addEventListener('open', () => console.log(JSON.stringify(['', 'open', ''])));
"""


class Lines:
    """A child process whose lines are read while it runs."""

    def __init__(self, *command: str, cwd: Path | None = None) -> None:
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self) -> str:
        """The next line."""
        return self.lines.get(timeout=PATIENCE)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join()
        assert self.child.stdout is not None
        self.child.stdout.close()


def test_eventsource_for_node(serve: Serve) -> None:
    server = serve("--retry=100")
    with Lines(need("node"), "-e", NODE, f"{server.url}/?channels=a", cwd=node_modules().parent) as node:
        assert json.loads(node.next())[1] == "open"
        for message in MESSAGES:
            publish(server.url, "a", message)
        assert [json.loads(node.next())[2] for _ in MESSAGES] == MESSAGES

        server.pause()  # nothing is read, so nothing is lost on the way; then the connection breaks
        server.kill()
        server.start()
        told = [json.loads(node.next()) for _ in range(2)]
        assert [kind for _, kind, _ in told] == ["open", "sse-gap"]
        publish(server.url, "a", "again")
        assert json.loads(node.next())[2] == "again"


def test_eventsource_for_node_resumes(server: SseServer) -> None:
    """Behind a network that was cut: what was published meanwhile comes, once, in order."""
    with (
        Site(server.port) as site,
        Lines(need("node"), "-e", NODE, f"{site.url}/sse/?channels=a", cwd=node_modules().parent) as node,
    ):
        assert json.loads(node.next())[1] == "open"
        publish(server.url, "a", "0")
        assert json.loads(node.next())[2] == "0"
        site.cut()
        for number in range(1, 20):
            publish(server.url, "a", str(number))
        site.heal()
        assert json.loads(node.next())[1] == "open"
        assert [json.loads(node.next())[2] for _ in range(1, 20)] == [str(number) for number in range(1, 20)]


def test_httpx_sse(server: SseServer) -> None:
    url = f"{server.url}/"
    with httpx.Client() as client:
        with httpx_sse.connect_sse(client, "GET", url, params={"channels": ["a", "b"]}) as source:
            for number, message in enumerate(MESSAGES):
                publish(server.url, "ab"[number % 2], message)
            events = source.iter_sse()
            received = [next(events) for _ in MESSAGES]
            assert [event.data for event in received] == MESSAGES
            assert {event.event for event in received} == {"message"}
        resumed = {"Last-Event-ID": received[2].id}
        with httpx_sse.connect_sse(
            client, "GET", url, params={"channels": ["a", "b"]}, headers=resumed
        ) as source:
            events = source.iter_sse()
            assert [next(events).data for _ in MESSAGES[3:]] == MESSAGES[3:]


def test_curl(server: SseServer) -> None:
    curl = need("curl")
    with Lines(curl, "-sN", f"{server.url}/?channels=a") as first:
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "[1]")
        publish(server.url, "a", "[2]")
        lines = [first.next() for _ in range(8)]
        assert lines[:2] == ["", ""]
        assert [lines[3], lines[6]] == ["data: [1]", "data: [2]"]
    with Lines(
        curl, "-sN", "-H", f"Last-Event-ID: {lines[2].removeprefix('id: ')}", f"{server.url}/?channels=a"
    ) as again:
        assert [again.next() for _ in range(5)][2:4] == lines[5:7]
