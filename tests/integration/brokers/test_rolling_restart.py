"""Two instances on one stream, restarted in turn and killed under load: no client loses or doubles an event.

Half of the clients choose an instance themselves, the others connect through nginx, configured as the sample.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.eventstream import Event, Parser
from tests.harness.patience import PATIENCE
from tests.harness.servers import SseServer
from tests.integration.brokers.test_redis_stream import STREAM, Stream, stream
from tests.integration.conftest import Serve
from tests.integration.test_nginx import Front

__all__ = ["stream"]  # the fixture

CLIENTS = 50
PAUSE = 1.5  # seconds of load between two steps


class Behind(Front):
    """The sample before two instances."""

    def __init__(self, directory: Path, servers: list[SseServer]) -> None:
        places = "".join(f"server 127.0.0.1:{server.port} max_fails=0;" for server in servers)
        listen = "server {\n    listen 127.0.0.1:{port};"
        changes = {
            f"http://127.0.0.1:{servers[0].port}": "http://instances",
            listen: f"upstream instances {{ {places} }}\n{listen}",
        }
        super().__init__(directory, servers[0], changes)


class Client:
    """Reconnects with its last id at once when disconnected. places: host, port, path and whether by TLS."""

    def __init__(self, ports: list[int], path: str, tls: ssl.SSLContext | None) -> None:
        self.ports = ports
        self.path = path
        self.tls = tls
        self.events: list[Event] = []
        self.last_id = ""
        self.opened = 0
        self.opened_first = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        while True:
            port = random.choice(self.ports)
            with suppress(OSError, asyncio.IncompleteReadError):  # refused, reset or cut off
                await self.listen(port)
            await asyncio.sleep(random.uniform(0.05, 0.3))

    async def listen(self, port: int) -> None:
        name = "localhost" if self.tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.tls, server_hostname=name)
        try:
            last = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
            head = f"GET {self.path}?channels=a&channels=b HTTP/1.0\r\nHost: localhost\r\n{last}\r\n"
            writer.write((head.replace("\r\n", "\r\nUser-Agent: Mozilla/5.0\r\n", 1)).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.split(b"\r\n")[0]:
                return  # nginx has no instance for us
            self.opened += 1
            self.opened_first.set()
            parser = Parser()
            while received := await reader.read(65536):
                self.events += parser.feed(received)
                self.last_id = parser.last_id or self.last_id
                if self.events and self.events[-1].data == "end":
                    self.ended.set()
        finally:
            writer.transport.abort()


class Publisher:
    """Publishes in turn by XADD and by POST to an instance that is up."""

    def __init__(self, redis_port: int, servers: list[SseServer], rate: float) -> None:
        self.redis_port = redis_port
        self.servers = servers
        self.rate = rate
        self.sent: list[str] = []
        self.uncertain: set[str] = set()  # without an answer: may have been published
        self.up = list(servers)
        self.stopping = False

    async def run(self) -> None:
        n = 0
        while not self.stopping:
            message = str(n)
            if n % 2:
                taken = await self.post(message)
            else:
                taken = await self.add(message)
            if taken is None:
                self.uncertain.add(message)
            if taken is not False:
                self.sent.append(message)
            n += 1
            await asyncio.sleep(1 / self.rate)

    async def add(self, message: str) -> bool:
        words = ["XADD", STREAM, "*", "channel", "ab"[len(self.sent) % 3 == 0], "message", message]
        command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        return (await exchange(self.redis_port, command)).startswith("$")

    async def post(self, message: str) -> bool | None:
        body = json.dumps({"channel": "ab"[len(self.sent) % 5 == 0], "message": message})
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        port = random.choice(self.up).port
        try:
            answer = await exchange(port, f"{head}Content-Type: application/json\r\n\r\n{body}")
        except ConnectionRefusedError:
            return False
        except OSError:
            return None
        return " 200 " in answer.split("\r\n")[0] if answer else None


async def exchange(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text.encode())
        return (await reader.read(65536)).decode()
    finally:
        writer.transport.abort()


async def restart(server: SseServer, publisher: Publisher, number: signal.Signals) -> None:
    """Stop an instance under load, and start it again."""
    publisher.up.remove(server)
    server.send_signal(number)
    await asyncio.to_thread(server.wait)
    await asyncio.to_thread(server.start)
    publisher.up.append(server)
    await asyncio.sleep(PAUSE)


async def live(
    servers: list[SseServer], redis_port: int, front: Front, rate: float
) -> tuple[list[Client], Publisher]:
    own = [server.port for server in servers]
    clients = [Client(own, "/", None) for _ in range(CLIENTS // 2)]
    clients += [Client([front.tls_port], "/sse/", front.tls) for _ in range(CLIENTS // 2)]
    publisher = Publisher(redis_port, servers, rate)
    tasks = [asyncio.create_task(client.run()) for client in clients]
    await asyncio.gather(*(client.opened_first.wait() for client in clients))
    load = asyncio.create_task(publisher.run())
    await asyncio.sleep(PAUSE)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for server in servers:
            await restart(server, publisher, number)
    publisher.stopping = True
    await load  # what is under way is to be answered
    await publisher.add("end")
    ended = asyncio.gather(*(client.ended.wait() for client in clients))
    with suppress(TimeoutError):  # then the test says who has not come to the end
        await asyncio.wait_for(ended, PATIENCE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # a turn for the connections to be closed in
    return clients, publisher


@pytest.mark.slow
@pytest.mark.parametrize("rate", [20, 200])
def test_no_client_loses_or_doubles_an_event(
    serve: Serve, stream: Stream, tmp_path: Path, rate: float
) -> None:
    servers = [serve(*stream.options, "--drain=1", "--history-size=1000") for _ in range(2)]
    with Behind(tmp_path, servers) as front:
        clients, publisher = asyncio.run(live(servers, stream.server.port, front, rate))
    certain = [each for each in publisher.sent if each not in publisher.uncertain]
    assert len(certain) > 50
    for client in clients:
        assert client.opened > 1
        gaps = [event for event in client.events if event.type != "message"]
        got = [event.data for event in client.events if event.type == "message"]
        assert gaps == []
        assert len(set(got)) == len(got)
        assert [each for each in got if each not in publisher.uncertain] == [*certain, "end"]
