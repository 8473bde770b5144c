"""All connections of one server: how many, whose, and until when each may stay.

A *client* is whoever hears events: it is counted from its request on until it is gone. Other requests are
never refused for their number: who publishes must get through when the house is full, and a connection on
which nothing happens is closed by its deadline. May cost nothing where no limit is set, and O(1) otherwise.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.logger import Logger

from cyclone_sse.deadlines import Deadlines
from cyclone_sse.errors import Refusal
from cyclone_sse.http.responses import Cors
from cyclone_sse.options import with_defaults

EXPIRED_AT_ONCE = 200  # connections closed before the reactor gets a turn: about 10 ms
RETRY_AFTER = (
    5,
    30,
)  # seconds; each refused client has its own, so that they do not come as one


class Timed(Protocol):
    """A connection, as far as it is known here."""

    transport: Any

    def time_out(self) -> None:
        """The deadline has passed."""


class Addressed(Protocol):
    """A request, as far as it is known here: where it comes from, maybe as a trusted proxy says."""

    @property
    def remote_ip(self) -> str:
        """The address."""


class ServerState:
    """What all connections share.

    settings: the options; missing ones have their defaults. clock: the reactor.
    """

    log = Logger()

    def __init__(self, settings: Mapping[str, Any], clock: Any) -> None:
        settings = with_defaults(settings)
        self.clock = clock
        self.max_body: int = settings["max-body"]
        self.trust_proxy: bool = settings["trust-proxy"]
        self.stall_timeout: float = settings["stall-timeout"]
        self.cors = Cors(settings["cors-origin"])
        self.open: set[Any] = set()
        self.ending = False  # no connection is kept for another request
        self.refusals: Counter[int] = Counter()  # by status, since the start
        self.clients = 0
        self._max_clients: int = settings["max-clients"]
        self._max_of_address: int = settings["max-clients-per-ip"]
        self._of_address: Counter[str] = Counter()
        self._deadlines: Deadlines[Any] = Deadlines()

    def admit(self, request: Addressed) -> str:
        """Count one more client, and give what to ``release`` it with.

        Raises Refusal when there are too many.
        """
        if self._max_clients and self.clients >= self._max_clients:
            raise _full(503, "this server has as many clients as it may have")
        network = network_of(request.remote_ip) if self._max_of_address else ""
        if network:
            if self._of_address[network] >= self._max_of_address:
                raise _full(429, "there are as many clients from this address as there may be")
            self._of_address[network] += 1
        self.clients += 1
        return network

    def release(self, network: str) -> None:
        """A client that was admitted has gone."""
        self.clients -= 1
        if network:
            self._of_address[network] -= 1
            if not self._of_address[network]:
                del self._of_address[network]

    def give_until(self, connection: Timed, seconds: float) -> None:
        """Let the connection time out so many seconds from now, unless something happens on it."""
        self._deadlines.set(connection, self.clock.seconds() + seconds)

    def give_time(self, connection: Timed) -> None:
        """The connection has no deadline."""
        self._deadlines.clear(connection)

    def expire(self) -> None:
        """Time out the connections whose deadline has passed; to be called about once a second."""
        due = self._deadlines.pop_due(self.clock.seconds(), EXPIRED_AT_ONCE)
        for connection in due:
            try:
                connection.time_out()
            except Exception:
                # One that fails must not keep the others.
                self.log.failure("a connection could not be timed out")
        if len(due) == EXPIRED_AT_ONCE:
            self.clock.callLater(0, self.expire)


def network_of(address: str) -> str:
    """Who an address stands for: a host with IPv4, with IPv6 whoever has the /64; "" for a UNIX socket."""
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
