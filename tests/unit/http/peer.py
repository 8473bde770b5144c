"""A client in memory: raw bytes in, raw bytes out, through a real application and connection."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.http.connection import Connection
from cyclone_sse.http.server_state import ServerState
from cyclone_sse.server import App

PUBLISH = (
    b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 19\r\n\r\nchannel=a&message=b"
)
FORM = "Content-Type: application/x-www-form-urlencoded"
STATS = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
SUBSCRIBE = b"GET /?channels=a HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """A server in memory, to which many clients may come. settings: its options."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.connections = ServerState(settings, self.clock)
        self.app = App({"demo": True, **settings})
        self.app.broker = HttpBroker(settings, reactor=self.clock)
        self.app.protocol = partial(Connection, self.connections)

    def peer(self, address: str = "192.168.1.1") -> Peer:
        """One more client, from this address."""
        return Peer(house=self, address=address)

    def turn(self) -> None:
        """What was scheduled for the next turns of the reactor happens."""
        self.clock.pump([0] * 5)


class Peer:
    """A client and the connection it has made, to a server of its own if none is given."""

    def __init__(
        self, max_body: int = 1000, house: House | None = None, address: str = "192.168.1.1", **settings: Any
    ) -> None:
        house = house or House(**{"max-body": max_body, **settings})
        self.clock = house.clock
        self.connections = house.connections
        self.app = house.app
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", address, 54321))
        self.connection = self.app.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """What the server has said when it has got these bytes."""
        self.connection.dataReceived(data)
        self.clock.advance(0)
        said: bytes = self.transport.value()
        return said

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
        return self.transport.disconnecting or self.transport.disconnected

    def wait(self, seconds: float) -> None:
        """Time goes by, and the sweep with it."""
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
