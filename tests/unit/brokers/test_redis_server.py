"""How a server finds Redis, directly or through sentinels, over connections in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from cyclone_sse.brokers.link import WrongServer
from cyclone_sse.brokers.redis_link import RedisLink
from cyclone_sse.brokers.redis_server import RedisServer, SentinelServer, redis_server
from cyclone_sse.options import with_defaults
from tests.unit.brokers.redis_wire import MASTER, Transport, fate, reply


class Network:
    """The attempts of one link to connect, which the test refuses or accepts."""

    def __init__(self, **options: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.server = redis_server(with_defaults(options), self.reactor)
        self.attempt = self.server.open(RedisLink)
        self.done = fate(self.attempt)

    def refuse(self) -> int:
        """Refuse the next connection attempt; returns its port."""
        client: Any = self.reactor.tcpClients.pop(0)
        port, factory = client[1:3]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(0.5)  # the host may have other addresses
        return int(port)

    def accept(self) -> tuple[int, Transport]:
        """Accept the next connection attempt. The fake resolver returns the same address for every host."""
        host, port, factory, *_ = self.reactor.tcpClients.pop(0)
        transport = Transport()
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", host, port))
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return port, transport


SENTINELS = {"redis-sentinel": (("10.0.0.1", 1), ("10.0.0.2", 2)), "redis-sentinel-name": "cache"}


def test_without_sentinels_it_is_where_the_options_say() -> None:
    network = Network(**{"redis-host": "10.0.0.9", "redis-port": 9})
    assert type(network.server) is RedisServer
    assert network.server.name == "Redis at 10.0.0.9:9"
    assert network.accept()[0] == 9
    assert network.done[0].must_be_master


def test_a_sentinel_that_is_away_is_followed_by_the_next() -> None:
    network = Network(**SENTINELS)
    assert network.server.longest_retry <= 2  # a failover is not to be waited for longer than it takes
    assert network.refuse() == 1
    port, transport = network.accept()
    assert port == 2
    assert transport.value() == reply(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"cache")
    transport.protocol.dataReceived(reply(b"10.0.0.9", b"9"))
    assert not transport.connected  # it was for this question
    assert network.accept()[0] == 9
    assert network.done[0].must_be_master


def test_a_sentinel_is_sent_its_password() -> None:
    network = Network(**SENTINELS, **{"redis-sentinel-password": "geheim"})
    _, transport = network.accept()
    assert transport.value() == reply(b"AUTH", b"geheim")
    transport.clear()
    transport.protocol.dataReceived(b"+OK\r\n")
    assert transport.value() == reply(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"cache")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"*-1\r\n", "An error occurred while connecting: it does not know the master 'cache'"),
        (b"-ERR no\r\n", "ERR no"),
        (None, "no answer in time"),
    ],
    ids=["unknown", "error", "silence"],
)
def test_what_all_sentinels_say_is_in_the_error(answer: bytes | None, reason: str) -> None:
    network = Network(**SENTINELS)
    assert isinstance(network.server, SentinelServer)
    for _ in range(2):
        transport = network.accept()[1]
        if answer is None:
            network.reactor.advance(1)
        else:
            transport.protocol.dataReceived(answer)
        assert not transport.connected
    (error,) = network.done
    assert isinstance(error, ConnectError)
    assert f"10.0.0.1:1: {reason}" in str(error)
    assert f"10.0.0.2:2: {reason}" in str(error)


def test_one_that_is_no_master_yet_is_refused() -> None:
    network = Network()
    _, transport = network.accept()
    (link,) = network.done
    link.must_be_master = True
    greeted = fate(link.log_in())
    link.dataReceived(b"+PONG\r\n" + reply(b"slave", b"10.0.0.9"))
    assert transport.value().endswith(reply(b"ROLE"))
    assert "not the master" in str(greeted[0])


class Check(Network):
    """A look whether a connection to 10.0.0.8:8 still leads to the master."""

    def __init__(self) -> None:
        super().__init__(**SENTINELS)
        self.attempt.cancel()
        self.done.clear()
        self.reactor.tcpClients.clear()
        link = RedisLink(self.reactor, None, None, None)
        link.address = ("10.0.0.8", 8)
        self.done = fate(Deferred.fromCoroutine(self.server.check([link])))

    def name(self, sentinel: int, host: bytes, port: bytes) -> None:
        """Let this sentinel name a master."""
        asked, transport = self.accept()
        assert asked == sentinel
        transport.protocol.dataReceived(reply(host, port))


def test_another_master_is_believed_when_it_says_so_itself() -> None:
    check = Check()
    check.name(1, b"10.0.0.9", b"9")
    port, transport = check.accept()
    assert (port, check.done) == (9, [])
    transport.protocol.dataReceived(b"+PONG\r\n" + MASTER)
    assert not transport.connected
    assert "10.0.0.9:9" in str(check.done[0])
    assert isinstance(check.done[0], WrongServer)


@pytest.mark.parametrize("answer", [reply(b"slave", b"10.0.0.8"), b"-ERR no\r\n", None])
def test_a_sentinel_that_names_no_master_ends_no_connection(answer: bytes | None) -> None:
    check = Check()
    check.name(1, b"10.0.0.9", b"9")
    if answer is None:
        assert check.refuse() == 9
    else:
        _, transport = check.accept()
        transport.protocol.dataReceived(b"+PONG\r\n" + answer if b"slave" in answer else answer)
        assert not transport.connected
    check.name(2, b"10.0.0.8", b"8")
    assert check.done == [None]
    assert not check.reactor.getDelayedCalls()


def test_no_other_is_asked_when_the_attempt_is_given_up() -> None:
    network = Network(**SENTINELS)
    network.attempt.cancel()
    network.reactor.advance(0.5)
    assert [client[1] for client in network.reactor.tcpClients] == [1]
    assert isinstance(network.done[0], ConnectingCancelledError)
