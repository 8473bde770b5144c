"""TLS on a socket that is sometimes full: the same bytes again, nothing twice, nothing before the rest."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import main

from cyclone_sse.daemon.tls import HANDSHAKES_A_TURN, MAX_HANDSHAKES, TlsTransports
from cyclone_sse.daemon.tls_transport import TlsServer
from tests.harness.certificates import write_certificates
from tests.unit.daemon.fakes import FakeReactor
from tests.unit.fakes import TurnClock


class Protocol:
    """What sits above the connection."""

    def __init__(self) -> None:
        self.received = b""

    lost = False

    def connectionLost(self, reason: Any) -> None:
        self.lost = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data


@pytest.fixture
def reactor() -> FakeReactor:
    """A reactor for one connection."""
    return FakeReactor()


class Pair:
    """Both ends of one connection: the server's transport, and a client that reads on demand."""

    def __init__(self, directory: Path, reactor: Any) -> None:
        files = write_certificates(directory)
        transports = TlsTransports(str(files / "chain.pem"), str(files / "leaf.key"))
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
            end.setblocking(False)
        self.protocol = Protocol()
        self.server: TlsServer = transports(ours, self.protocol, ("a", 1), None, 1, reactor)
        self.server.repstr = "pair"
        self.reactor = reactor
        context = ssl.create_default_context(cafile=str(files / "root.pem"))
        self.client = context.wrap_socket(theirs, server_hostname="127.0.0.1", do_handshake_on_connect=False)

    def shake_hands(self) -> None:
        for _ in range(10):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                assert self.server.doRead() is None
                self.reactor.advance(0)
            else:
                break
        assert self.server.doRead() is None
        self.reactor.advance(0)

    def read(self, size: int = 1 << 20) -> bytes:
        data = b""
        while len(data) < size:
            try:
                data += self.client.recv(size - len(data))
            except ssl.SSLWantReadError:
                break
        return data

    def close(self) -> None:
        self.client.close()
        if not self.protocol.lost:
            self.server.socket.close()


@pytest.fixture
def pair(tmp_path: Path, reactor: FakeReactor) -> Iterator[Pair]:
    """A connection that has shaken hands."""
    both = Pair(tmp_path, reactor)
    both.shake_hands()
    yield both
    both.close()


def test_what_is_sent_leaves_at_once(pair: Pair) -> None:
    assert pair.server.send(b"one") == 3
    assert pair.read() == b"one"
    pair.client.sendall(b"question")
    pair.server.doRead()
    assert pair.protocol.received == b"question"


def test_the_handle_is_asked_like_a_socket(pair: Pair) -> None:
    assert pair.server.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def test_a_full_socket_takes_whole_records_and_the_rest_is_offered_again(pair: Pair) -> None:
    message = bytes(range(256)) * 1000
    sent, got = 0, b""
    while sent < len(message):
        try:
            sent += pair.server.send(message[sent:])
        except BlockingIOError:
            got += pair.read(5000)
    got += pair.read()
    assert got == message


def test_the_transport_s_own_buffer_goes_out_in_order(pair: Pair) -> None:
    message = bytes(range(256)) * 2000
    pair.server.write(message)
    pair.server.write(b"end")
    got = b""
    while len(got) < len(message) + 3:
        pair.server.doWrite()
        got += pair.read(7000)
    assert got == message + b"end"


def test_the_end_is_told(pair: Pair) -> None:
    pair.server.write(b"last words")
    pair.server.loseConnection()
    assert pair.server.doWrite() is main.CONNECTION_DONE
    assert pair.read(10) == b"last words"
    assert pair.client.recv(10) == b"", "close_notify, no ragged end"


def test_what_is_written_before_the_handshake_waits_for_it(tmp_path: Path, reactor: FakeReactor) -> None:
    pair = Pair(tmp_path, reactor)
    pair.server.write(b"early")
    assert pair.server.doWrite() is None
    assert pair.server not in reactor.writers, "it must not be asked again and again"
    pair.shake_hands()
    pair.client.sendall(b"x")
    pair.server.doRead()
    assert pair.server in reactor.writers
    pair.server.doWrite()
    assert pair.read(5) == b"early"
    pair.close()


def test_plain_http_is_told_and_ended(tmp_path: Path, reactor: FakeReactor) -> None:
    pair = Pair(tmp_path, reactor)
    socket.socket.send(pair.client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert pair.server.doRead() is None
    reactor.advance(0)
    assert pair.protocol.lost
    assert socket.socket.recv(pair.client, 1000).startswith(b"HTTP/1.1 400 ")
    pair.close()


class TurnReactor(TurnClock, FakeReactor):
    """A reactor for several connections, that takes single turns."""


def test_a_few_handshakes_a_turn_and_the_listener_is_told(tmp_path: Path) -> None:
    reactor, files = TurnReactor(), write_certificates(tmp_path)
    transports = TlsTransports(str(files / "chain.pem"), str(files / "leaf.key"))
    assert not transports.is_busy
    pairs = [socket.socketpair() for _ in range(MAX_HANDSHAKES)]
    servers = [transports(ours, Protocol(), ("a", 1), None, 1, reactor) for ours, _ in pairs]
    for server in servers:
        assert not transports.is_busy
        server.startReading()
        server.doRead()
    assert transports.is_busy
    assert not reactor.readers, "none is read again before its turn"
    for turn in (1, 2):
        reactor.turn()
        assert reactor.readers == set(servers[: turn * HANDSHAKES_A_TURN])
        assert not transports.is_busy
    for server, (_, theirs) in zip(servers, pairs, strict=True):
        server.socket.close()
        theirs.close()
