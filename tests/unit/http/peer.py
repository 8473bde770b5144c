"""A server in memory and its clients: raw bytes in and out, through a real application and connection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from twisted.internet.address import IPv4Address

from cyclone_sse.brokers import Broker, HttpBroker
from cyclone_sse.handlers import BroadcastHandler
from cyclone_sse.http.connection import Connection
from cyclone_sse.http.server_state import ServerState
from cyclone_sse.server import App
from tests.harness.eventstream import Parser
from tests.unit.fakes import FakeSocket, TurnClock

PUBLISH = (
    b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 19\r\n\r\nchannel=a&message=b"
)
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json; charset=utf-8"
LINES = "Content-Type: application/x-ndjson"
POLL = "X-Requested-With: XMLHttpRequest"
STATS = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
SUBSCRIBE = b"GET /?channels=a HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire(FakeSocket):
    """The server's end of a connection, with what the HTTP side needs of it beside bytes."""

    def __init__(self, address: str, room: int | None = None) -> None:
        super().__init__(room)
        self.address = address
        self.connection: Any = None  # where a test needs it
        self.reading = True
        self.half_closed = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self.address, 54321)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8888)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def value(self) -> bytes:
        """All that the client has read; it reads what is there."""
        self.read(self.room and 0)
        return bytes(self.received)

    @property
    def events(self) -> list[str]:
        """The data of all events in this stream."""
        return [event.data for event in Parser().feed(self.value().partition(b"\r\n\r\n")[2])]

    @property
    def gone(self) -> bool:
        """The server has ended the connection."""
        return self.closing or self.aborted or self.half_closed


class MemoryServer:
    """A server in memory, which many clients may connect to.

    settings: its options. subscribe: the handler of streams. broker: makes the broker.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        subscribe: type[BroadcastHandler] = BroadcastHandler,
        broker: Callable[..., Any] = HttpBroker,
    ) -> None:
        clock = self.clock = TurnClock()

        class MemoryApp(App):
            broadcast_handler = subscribe

            def make_broker(self, settings: Mapping[str, Any], reactor: Any) -> Broker:
                return broker(settings, reactor=clock)  # type: ignore[no-any-return]

        self.app = MemoryApp({"demo": True, **(settings or {})})
        self.broker: Any = self.app.broker
        self.connections = ServerState(settings or {}, clock, self.broker.hub.counters.refusals)
        self.app.protocol = partial(Connection, self.connections)

    def peer(self, address: str = "192.168.1.1") -> Peer:
        """One more client, from this address."""
        return Peer(server=self, address=address)

    def connect(
        self, method: str, target: str, *headers: str, body: bytes = b"", turn: bool = True, host: str = "x"
    ) -> Wire:
        """One more client, and its request."""
        wire = Wire("192.168.1.1")
        connection = wire.connection = self.app.buildProtocol(None)
        connection.makeConnection(wire)
        length = [f"Content-Length: {len(body)}"] if body else []
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, *length, "", ""]
        connection.dataReceived("\r\n".join(lines).encode() + body)
        if turn:
            self.turn()
        return wire

    def request(self, method: str, target: str, *headers: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Status, head and body of the response; of a stream, what there is of it so far."""
        head, _, content = self.connect(method, target, *headers, body=body).value().partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), content

    def publish(self, channel: str, message: str) -> int:
        """Publish by a form; returns the status."""
        form = urlencode({"channel": channel, "message": message}).encode()
        return self.request("POST", "/publish", FORM, body=form)[0]

    def turn(self) -> None:
        """Run what was scheduled for the next turns of the reactor."""
        for _ in range(5):
            self.clock.turn()


class Peer:
    """A client and its connection, to a server of its own if none is given."""

    def __init__(
        self,
        max_body: int = 1000,
        server: MemoryServer | None = None,
        address: str = "192.168.1.1",
        **settings: Any,
    ) -> None:
        server = server or MemoryServer({"max-body": max_body, **settings})
        self.clock = server.clock
        self.connections = server.connections
        self.app = server.app
        self.transport = Wire(address)
        self.connection = self.app.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """All that the server has sent when it has these bytes."""
        self.connection.dataReceived(data)
        self.clock.advance(0)
        return self.transport.value()

    @property
    def statuses(self) -> list[int]:
        """The status of each response so far."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.transport.value())]

    @property
    def reason(self) -> str:
        """Why the last request was refused."""
        body = self.transport.value().rpartition(b"\r\n\r\n")[2]
        return str(json.loads(body)["reason"])

    @property
    def gone(self) -> bool:
        """The server has ended the connection."""
        return self.transport.gone

    def wait(self, seconds: float) -> None:
        """Let time pass, with the sweep of each second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.connections.expire()


def head(*lines: str, method: str = "POST", target: str = "/publish") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


@dataclass
class Response:
    """One response as it came."""

    status: int
    headers: dict[str, str]  # by names in lower case
    body: bytes


def parse(data: bytes, without_body: bool = False) -> list[Response]:
    """All responses in these bytes, which must be whole but for a stream. without_body: to HEAD."""
    found = []
    while data:
        top, end, data = data.partition(b"\r\n\r\n")
        assert end, f"not a whole head: {top!r}"
        line, *lines = top.decode("ascii").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [\w '-]+", line)
        assert match, line
        headers = {}
        for each in lines:
            name, colon, value = each.partition(": ")
            assert re.fullmatch(r"[A-Za-z-]+", name), each
            assert colon, each
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        status = int(match[1])
        empty = without_body or status in (204, 304) or status < 200
        size = 0 if empty else int(headers.get("content-length", len(data)))
        assert len(data) >= size
        found.append(Response(status, headers, data[:size]))
        data = data[size:]
    return found
