"""The first bytes that a balancer sends, and whose address the connection has."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cyclone_sse.daemon.proxy_protocol import is_proxied, proxied
from cyclone_sse.http.server_state import SPARE_CONNECTIONS
from tests.unit.http.peer import PUBLISH, STATS, MemoryServer, Wire

BALANCER = IPv4Address("TCP", "10.0.0.1", 5)
V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Noting(Protocol):
    """Notes what it receives."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


def connection(*pieces: bytes) -> tuple[str, bytes, bool]:
    """The address of a connection that sends this, what its protocol received, and whether it was closed."""
    inner = Noting()
    made: Any = proxied(Factory.forProtocol(lambda: inner)).buildProtocol(BALANCER)
    transport = StringTransport(peerAddress=BALANCER)
    made.makeConnection(transport)
    for piece in pieces:
        made.dataReceived(piece)
    return made.getPeer().host, inner.received, transport.disconnecting


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n",
        V2 + b"\x20\0\0\0",  # LOCAL
        V2 + b"\x20\x11\0\x0c" + b"\xc0\0\2\1" + b"\xc0\0\2\2" + b"\0\1\0\2",
        V2 + b"\x21\0\0\0",  # PROXY, of an unknown family
    ],
)
def test_a_client_that_the_balancer_does_not_know_has_the_balancer_s_address(header: bytes) -> None:
    assert connection(header + b"GET") == ("10.0.0.1", b"GET", False)
    assert connection(header, b"GET ", b"/") == ("10.0.0.1", b"GET /", False)


def test_the_address_of_a_client_comes_from_either_version() -> None:
    line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    assert connection(line + b"GET") == ("192.0.2.1", b"GET", False)
    assert connection(*(bytes([byte]) for byte in line), b"GET") == ("192.0.2.1", b"GET", False)
    header = V2 + b"\x21\x11\0\x0c" + b"\xc0\0\2\1" + b"\xc0\0\2\2" + b"\0\1\0\2"
    assert connection(header + b"GET") == ("192.0.2.1", b"GET", False)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"P / HTTP/1.1\r\n\r\n",
        b"PROXY\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 x 2\r\n",
        b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%<b>\x1b[2J fe80::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1\nX 192.0.2.2 1 2\r\n",
        b"PROXY " + b"x" * 200,
    ],
)
def test_what_is_no_header_ends_the_connection(data: bytes) -> None:
    assert connection(data) == ("10.0.0.1", b"", True)


def test_only_the_factory_of_such_an_endpoint_is_one() -> None:
    factory = Factory.forProtocol(Noting)
    assert not is_proxied(factory)
    assert is_proxied(proxied(factory))


LINE = b"PROXY TCP4 192.0.2.1 192.0.2.99 1 2\r\n"


def through_balancer(server: MemoryServer, data: bytes) -> tuple[Any, Wire]:
    """A connection that a balancer opened, and that has sent this; and its other end."""
    wire = Wire(BALANCER.host)
    made: Any = proxied(server.app).buildProtocol(BALANCER)
    made.makeConnection(wire)
    made.dataReceived(data)
    return made, wire


def request_through_balancer(server: MemoryServer, client: bytes) -> Wire:
    """The connection of a client that the balancer names, with one request."""
    return through_balancer(server, LINE.replace(b"192.0.2.1 ", client + b" ") + STATS)[1]


@pytest.mark.parametrize("data", [b"", b"PRO", LINE, LINE + STATS[:-4]])
def test_the_end_of_what_a_client_sends_ends_a_connection_without_a_request(data: bytes) -> None:
    made, wire = through_balancer(MemoryServer(), data)
    IHalfCloseableProtocol(made).readConnectionLost()
    assert wire.gone


def test_a_client_that_has_closed_its_side_gets_its_answer() -> None:
    server, taken = MemoryServer(), Deferred[None]()
    server.broker.publish_all = lambda *_: taken
    made, wire = through_balancer(server, LINE + PUBLISH)
    IHalfCloseableProtocol(made).readConnectionLost()
    assert not wire.gone
    taken.callback(None)
    assert b" 200 OK\r\n" in wire.value()
    assert wire.gone


def test_a_client_that_still_sends_can_read_why_it_was_refused() -> None:
    made, wire = through_balancer(MemoryServer(), LINE + PUBLISH.replace(b": 19", b": 99999999"))
    assert b" 413 " in wire.value()
    assert wire.half_closed
    assert not wire.closing
    IHalfCloseableProtocol(made).writeConnectionLost()
    made.dataReceived(b"more")
    IHalfCloseableProtocol(made).readConnectionLost()
    assert wire.closing


def test_connections_count_for_their_clients_not_for_the_balancer() -> None:
    server = MemoryServer({"max-clients-per-ip": 1})
    wires = []
    for number in range(SPARE_CONNECTIONS + 3):
        wires.append(request_through_balancer(server, b"192.0.2.%d" % (number + 1)))
        server.clock.advance(1)
    assert not any(wire.aborted for wire in wires)


def test_connections_of_one_client_behind_the_balancer_are_limited() -> None:
    server = MemoryServer({"max-clients-per-ip": 1})
    wires = []
    for _ in range(SPARE_CONNECTIONS + 2):
        wires.append(request_through_balancer(server, b"192.0.2.1"))
        server.clock.advance(1)
    assert [wire.aborted for wire in wires].count(True) == 1
    assert wires[0].aborted


def test_the_server_forgets_connections_that_came_from_a_balancer() -> None:
    server = MemoryServer({"max-clients-per-ip": 1})
    gone = []
    for number in range(3):
        made: Any = proxied(server.app).buildProtocol(BALANCER)
        made.makeConnection(Wire(BALANCER.host))
        if number:
            made.dataReceived(b"PROXY TCP4 192.0.2.1 192.0.2.99 1 2\r\n" + STATS)
        gone.append(weakref.ref(made.wrappedProtocol))
        made.connectionLost(Failure(ConnectionDone()))
    server.clock.advance(60)
    server.connections.expire()
    del made
    gc.collect()
    assert not any(connection() for connection in gone)
