"""How many clients there may be, whose they are, and when connections are over."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure

from cyclone_sse.http.server_state import (
    EXPIRED_AT_ONCE,
    MIN_QUIET,
    RETRY_AFTER,
    RUN_TIME,
    SPARE_CONNECTIONS,
    ServerState,
    host_of_peer,
    network_of,
)
from cyclone_sse.run_queue import BREAK
from tests.unit.http.peer import PUBLISH, STATS, SUBSCRIBE, MemoryServer, parse

GONE = Failure(ConnectionDone())


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:/run/server.sock", ""),
        ("", ""),
    ],
)
def test_who_an_address_stands_for(address: str, network: str) -> None:
    assert network_of(address) == network


def test_the_server_is_full_at_its_limit() -> None:
    server = MemoryServer({"max-clients": 2})
    first, second, third = server.peer(), server.peer(), server.peer()
    first.send(SUBSCRIBE)
    second.send(SUBSCRIBE)
    (refused,) = parse(third.send(SUBSCRIBE))
    assert refused.status == 503
    assert RETRY_AFTER[0] <= int(refused.headers["retry-after"]) <= RETRY_AFTER[1]
    assert refused.headers["access-control-allow-origin"] == "*"
    assert not third.gone, "it may publish, say"
    first.connection.connectionLost(GONE)
    third.send(SUBSCRIBE)
    assert third.statuses == [503, 200]
    assert server.connections.clients == 2


def test_who_publishes_gets_through_a_full_house() -> None:
    server = MemoryServer({"max-clients": 1})
    server.peer().send(SUBSCRIBE)
    publisher = server.peer()
    publisher.send(PUBLISH + STATS)
    assert publisher.statuses == [200, 200]


def test_each_refused_client_is_told_a_time_of_its_own() -> None:
    server = MemoryServer({"max-clients": 1})
    server.peer().send(SUBSCRIBE)
    times = {parse(server.peer().send(SUBSCRIBE))[0].headers["retry-after"] for _ in range(200)}
    assert len(times) > 10


@pytest.mark.parametrize(("same", "other"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")])
def test_an_address_has_a_limit_of_its_own(same: str, other: str) -> None:
    server = MemoryServer({"max-clients-per-ip": 1})
    first, second, elsewhere = server.peer(same), server.peer(same), server.peer(other)
    first.send(SUBSCRIBE)
    (refused,) = parse(second.send(SUBSCRIBE))
    assert refused.status == 429
    assert "retry-after" in refused.headers
    elsewhere.send(SUBSCRIBE)
    assert elsewhere.statuses == [200]
    first.connection.connectionLost(GONE)
    second.send(SUBSCRIBE)
    assert second.statuses == [429, 200]


def forwarded(address: str) -> bytes:
    return SUBSCRIBE[:-2] + f"X-Forwarded-For: 203.0.113.9, {address}\r\n\r\n".encode()


def test_behind_a_proxy_that_is_trusted_its_word_counts() -> None:
    server = MemoryServer({"max-clients-per-ip": 1, "trust-proxy": True})
    for address, status in (("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)):
        peer = server.peer("127.0.0.1")
        peer.send(forwarded(address))
        assert peer.statuses == [status]


def test_no_other_peer_is_believed() -> None:
    server = MemoryServer({"max-clients-per-ip": 1})
    for address, status in (("192.0.2.1", 200), ("192.0.2.2", 429)):
        peer = server.peer("127.0.0.1")
        peer.send(forwarded(address))
        assert peer.statuses == [status]


def test_a_long_poll_that_was_answered_is_no_client_any_more() -> None:
    server = MemoryServer({"max-clients": 1})
    poller = server.peer()
    poll = SUBSCRIBE[:-2] + b"X-Requested-With: XMLHttpRequest\r\n\r\n"
    poller.send(poll)
    assert server.connections.clients == 1
    server.peer().send(PUBLISH)
    server.turn()
    assert poller.statuses == [200]
    assert server.connections.clients == 0
    poller.send(poll)
    assert server.connections.clients == 1
    poller.connection.readConnectionLost()  # the client has closed its side
    assert poller.transport.aborted
    poller.connection.connectionLost(GONE)
    assert server.connections.clients == 0


def test_clients_that_are_gone_are_forgotten() -> None:
    server = MemoryServer({"max-clients-per-ip": 5})
    peers = [server.peer(f"192.0.2.{n}") for n in range(20)]
    for peer in peers:
        peer.send(SUBSCRIBE)
        peer.connection.connectionLost(GONE)
    assert not server.connections._of_address
    assert not server.connections._deadlines


class Fake:
    """A connection that counts, and fails on demand."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.ended = 0
        self.transport: Any = None

    quiet_since = 0.0

    def time_out(self) -> None:
        self.ended += 1
        if self.fails:
            raise ZeroDivisionError


def test_one_that_fails_does_not_keep_the_others(failures: list[Any]) -> None:
    clock = Clock()
    connections = ServerState({}, clock)
    fakes = [Fake(fails=number == 1) for number in range(3)]
    for fake in fakes:
        connections.set_deadline(fake, 5.0)
    clock.advance(10)
    connections.expire()
    assert [fake.ended for fake in fakes] == [1, 1, 1]
    assert len(failures) == 1


def test_a_crowd_is_ended_in_turns() -> None:
    clock = Clock()
    connections = ServerState({}, clock)
    fakes = [Fake() for _ in range(EXPIRED_AT_ONCE * 2 + 1)]
    for fake in fakes:
        connections.set_deadline(fake, 5.0)
    clock.advance(10)
    connections.expire()
    assert sum(fake.ended for fake in fakes) == EXPIRED_AT_ONCE
    clock.pump([0, 0])
    assert sum(fake.ended for fake in fakes) == len(fakes)


def test_only_what_is_due_is_looked_at() -> None:
    clock = Clock()
    connections = ServerState({}, clock)
    early, late, never = Fake(), Fake(), Fake()
    connections.set_deadline(early, 5.0)
    connections.set_deadline(late, 50.0)
    connections.set_deadline(never, 5.0)
    connections.clear_deadline(never)
    clock.advance(20)
    connections.expire()
    assert (early.ended, late.ended, never.ended) == (1, 0, 0)


def test_room_is_made_by_the_idlest_connection_of_the_greediest_network() -> None:
    server = MemoryServer({})
    honest = server.peer(address="192.0.2.1")
    greedy = []
    for _ in range(3):
        greedy.append(server.peer(address="198.51.100.1"))
        server.clock.advance(1)
    stream = server.peer(address="198.51.100.1")
    stream.send(SUBSCRIBE)
    greedy[0].send(STATS)  # now the least idle of them
    server.clock.advance(MIN_QUIET)
    assert server.connections.make_room()
    assert [peer.transport.aborted for peer in greedy] == [False, True, False]
    assert server.connections.make_room()
    assert [peer.transport.aborted for peer in greedy] == [False, True, True]
    assert not honest.transport.aborted
    for peer in greedy[1:]:
        peer.connection.connectionLost(GONE)
    for peer in (honest, greedy[0]):
        assert server.connections.make_room()
        peer.connection.connectionLost(GONE)
    assert not server.connections.make_room()
    assert not stream.transport.aborted, "streams are bounded by --max-clients"


def slow_down(server: MemoryServer, seconds: float) -> None:
    """Let each request for the statistics take so long."""

    def slow(*_: object) -> str:
        server.clock.rightNow += seconds
        return "{}"

    server.broker.hub.stats_table.table = slow


def test_requests_that_arrive_together_are_answered_in_several_turns() -> None:
    server = MemoryServer({})
    peers = [server.peer() for _ in range(4)]
    slow_down(server, 0.6 * RUN_TIME)
    for peer in peers:
        peer.connection.dataReceived(STATS)
    assert [len(peer.statuses) for peer in peers] == [1, 1, 0, 0]
    server.clock.turn()
    assert [len(peer.statuses) for peer in peers] == [1, 1, 1, 1]
    server.clock.advance(2 * BREAK)
    peers[0].connection.dataReceived(STATS)
    assert peers[0].statuses == [200, 200], "at once again"


def test_requests_wait_for_another_turn_also_if_their_clients_send_no_more() -> None:
    server = MemoryServer({})
    peers = [server.peer() for _ in range(3)]
    slow_down(server, 1.1 * RUN_TIME)
    for peer in peers:
        peer.connection.dataReceived(STATS)
        peer.connection.readConnectionLost()
    assert [peer.statuses for peer in peers] == [[200], [], []]
    for answered in (1, 2):
        assert not peers[answered].gone
        server.clock.turn()
        assert [len(peer.statuses) for peer in peers] == [1] * (answered + 1) + [0] * (2 - answered)
    server.clock.turn()
    assert all(peer.gone for peer in peers)


def test_long_requests_of_one_connection_are_answered_in_several_turns() -> None:
    server = MemoryServer({})
    peer = server.peer()
    slow_down(server, 0.4 * RUN_TIME)
    peer.connection.dataReceived(STATS * 7)
    assert len(peer.statuses) == 3
    assert not peer.transport.reading
    server.clock.turn()
    assert len(peer.statuses) == 6
    server.clock.turn()
    assert len(peer.statuses) == 7
    assert peer.transport.reading


def test_an_address_keeps_so_many_idle_connections_at_most() -> None:
    server = MemoryServer({"max-clients-per-ip": 2})
    stream = server.peer("192.0.2.1")
    stream.send(SUBSCRIBE)
    greedy = []
    for _ in range(SPARE_CONNECTIONS + 3):
        greedy.append(server.peer("192.0.2.1"))
        greedy[-1].send(STATS)
        server.clock.advance(1)
        for peer in greedy:
            if peer.transport.aborted:
                peer.connection.connectionLost(GONE)
    assert [peer.transport.aborted for peer in greedy].count(True) == 2
    assert greedy[0].transport.aborted
    assert not stream.transport.aborted
    assert not greedy[-1].transport.aborted
    other = server.peer("192.0.2.2")
    other.send(STATS)
    assert not other.transport.aborted


def test_connections_of_a_trusted_proxy_are_not_counted() -> None:
    server = MemoryServer({"max-clients-per-ip": 1, "trust-proxy": True})
    peers = [server.peer("127.0.0.1") for _ in range(SPARE_CONNECTIONS + 5)]
    assert not any(peer.transport.aborted for peer in peers)


@pytest.mark.parametrize(
    ("transport", "peer", "host"),
    [
        (tcp.Server, ("192.0.2.1", 4711), "192.0.2.1"),
        (tcp.Server, ("fe80::1%eth0", 4711, 0, 2), "fe80::1%eth0"),
        (unix.Server, "", ""),
        (unix.Server, "192.0.2.1", ""),  # the name that the client has bound
    ],
)
def test_the_address_of_a_peer_is_that_of_the_network(transport: Any, peer: Any, host: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = transport(ours, Protocol(), peer, None, 1, MemoryReactor())
        assert host_of_peer(made) == host == getattr(made.getPeer(), "host", "")
