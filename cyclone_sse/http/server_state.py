"""The state that all connections of one server share: their number, networks, deadlines and turns.

A *client* receives events, and is counted from its request until it is gone. Other requests are never refused
because of their number: publishers must be able to publish when the server is full, and idle connections are
closed at their deadlines. Costs nothing without limits, and O(1) otherwise.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.errors import Refusal
from cyclone_sse.http.body_budget import BodyBudget
from cyclone_sse.http.eviction import pick_idlest
from cyclone_sse.http.forwarded import Proxies
from cyclone_sse.http.responses import Cors
from cyclone_sse.http.unread_answers import UnreadAnswers
from cyclone_sse.options import with_defaults
from cyclone_sse.run_queue import RunQueue
from cyclone_sse.slices import Slices

EXPIRED_AT_ONCE = 200  # connections closed before the reactor gets a turn: about 10 ms
MIN_QUIET = 0.5  # seconds: without this, a connection would be closed before its request can arrive
RUN_AT_ONCE = 20  # connections that continue in one turn: about a millisecond
RUN_TIME = 0.01  # seconds of a turn after which no connection continues: one may have 20 long requests
SPARE_CONNECTIONS = 8  # of one network beside those of its clients, for requests that are not streams
RETRY_AFTER = (5, 30)  # seconds; each refused client gets its own, so that they do not all return at once


class Timed(Protocol):
    """A connection, as far as the server's state knows it."""

    transport: Any
    quiet_since: float  # when the server began to wait for its client

    def time_out(self) -> None:
        """Handle the deadline, which has passed."""


class Addressed(Protocol):
    """A request, as far as the server's state knows it: its address, which a trusted proxy may have sent."""

    @property
    def remote_ip(self) -> str:
        """The address."""


class ServerState:
    """The state that all connections share.

    settings: the options; missing ones have their defaults. clock: the reactor. refusals: counts refused
    requests by status.
    """

    log = Logger()

    def __init__(self, settings: Mapping[str, Any], clock: Any, refusals: Counter[int] | None = None) -> None:
        settings = with_defaults(settings)
        self.clock = clock
        self.bodies = BodyBudget()
        self.unread = UnreadAnswers()
        self.slices = Slices(clock)  # bodies that are read over several turns
        self.answers = Slices(clock)  # answers that are written over several turns
        self.runs = RunQueue(clock, RUN_AT_ONCE, RUN_TIME)  # connections with requests to be answered
        self.max_body: int = settings["max-body"]
        self.idle_timeout: float = settings["idle-timeout"]  # seconds between requests on one connection
        self.proxies = Proxies(settings["trust-proxy"])
        self.cors = Cors(settings["cors-origin"])
        self.open: set[Any] = set()  # the connections; `add` and `discard` change it
        self.ending = False  # no connection is kept for another request
        self.refusals: Counter[int] = Counter() if refusals is None else refusals
        self.clients = 0
        self._max_clients: int = settings["max-clients"]
        self._max_of_address: int = settings["max-clients-per-ip"]
        self._of_address: Counter[str] = Counter()
        self._connections_of: dict[str, dict[Any, None]] = {}  # by network, where there is a limit
        self._deadlines: Deadlines[Any] = Deadlines()
        self.clear_deadline = self._deadlines.clear  # it may stay for any time
        # Connections to be closed next if a descriptor is needed; see `make_room`.
        self._idlest: list[tuple[Any, float]] = []
        self._empty: list[Deferred[None]] = []  # fire when no connection is left

    def add(self, connection: Timed) -> None:
        """Note that the connection was opened."""
        self.open.add(connection)
        if not getattr(connection.transport, "awaits_address", False):
            self.note_address(connection)

    def note_address(self, connection: Timed) -> None:
        """Note the address of the connection: behind a balancer, when its header has been read.

        Closes the idlest connection of a network that has more of them than its clients need.
        """
        if not self._max_of_address or connection not in self.open:
            return
        host = host_of_peer(connection.transport)
        network = network_of(host)
        if not network or self.proxies.trusts(host):
            return
        mine = self._connections_of.setdefault(network, {})
        mine[connection] = None
        if len(mine) > self._max_of_address + SPARE_CONNECTIONS:
            idle = [each for each in mine if each in self._deadlines and each is not connection]
            if idle:
                min(idle, key=lambda each: each.quiet_since).transport.abortConnection()

    def discard(self, connection: Timed) -> None:
        """Note that the connection is closed."""
        self.open.discard(connection)
        if self._max_of_address:
            network = network_of_peer(connection)
            mine = self._connections_of.get(network, {})
            mine.pop(connection, None)
            if not mine:
                self._connections_of.pop(network, None)
        self._deadlines.clear(connection)
        if not self.open:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def gone(self) -> Deferred[None]:
        """A Deferred that fires when no connection is open."""
        deferred: Deferred[None] = Deferred()
        if self.open:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def count_client(self, request: Addressed) -> str:
        """Count one more client; returns what ``release_client`` needs.

        Raises Refusal when there are too many.
        """
        if self._max_clients and self.clients >= self._max_clients:
            raise _full(503, "the server has reached its limit of clients (--max-clients)")
        network = network_of(request.remote_ip) if self._max_of_address else ""
        if network:
            if self._of_address[network] >= self._max_of_address:
                raise _full(429, "too many clients from this address (--max-clients-per-ip)")
            self._of_address[network] += 1
        self.clients += 1
        return network

    def release_client(self, network: str) -> None:
        """Stop counting a client that is gone."""
        self.clients -= 1
        if network:
            self._of_address[network] -= 1
            if not self._of_address[network]:
                del self._of_address[network]

    def set_deadline(self, connection: Timed, seconds: float) -> None:
        """Set the deadline of the connection, in seconds from now, in place of the last one."""
        connection.quiet_since = now = self.clock.seconds()
        self._deadlines.set(connection, now + seconds)

    def make_room(self) -> bool:
        """Close a connection on which the server waits: the idlest of the network with the most connections.

        Returns False if there is none. Called when no descriptor is free for a new connection. Without this,
        one network with idle connections would block all other clients and publishers.
        """
        for _ in range(2):
            while self._idlest:
                connection, since = self._idlest.pop()
                if connection in self._deadlines and connection.quiet_since == since:
                    connection.transport.abortConnection()
                    return True
            self._idlest = pick_idlest(self._deadlines, network_of_peer, self.clock.seconds() - MIN_QUIET)
        return False

    def expire(self) -> None:
        """Time out the connections whose deadline has passed. Called once a second."""
        due = self._deadlines.pop_due(self.clock.seconds(), EXPIRED_AT_ONCE)
        for connection in due:
            try:
                connection.time_out()
            except Exception:
                # Without this, one that fails keeps all others open.
                self.log.failure("a connection could not be timed out")
        if len(due) == EXPIRED_AT_ONCE:
            self.clock.callLater(0, self.expire)


def network_of_peer(connection: Timed) -> str:
    """The network from which a connection comes; "" for a UNIX socket."""
    host = host_of_peer(connection.transport)
    return network_of(host) if ":" in host else host


def host_of_peer(transport: Any) -> str:
    """The address of the client at the other end; "" for a UNIX socket."""
    if isinstance(transport, tcp.Server) and not isinstance(transport, unix.Server):
        # `getPeer` would make an object each time, a fiftieth of what a client costs.
        return str(transport.client[0])
    host: str = getattr(transport.getPeer(), "host", "")
    return host


def network_of(address: str) -> str:
    """The network of an address: an IPv4 address itself, the /64 of IPv6, "" for a UNIX socket."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))


def _full(status: int, reason: str) -> Refusal:
    return Refusal(status, reason, {"Retry-After": str(random.randint(*RETRY_AFTER))})
