"""Where Redis is: at a fixed address, or where its sentinels say that the master is now.

All Redis brokers connect through here. A sentinel is asked anew for each connection, so that a failover is
nothing but a lost connection and the next one; whoever the sentinels name must itself say that it is the
master, since they name the old one until they have agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS

from cyclone_sse.brokers.redis_link import RedisLink

CONNECT_WAIT = 5.0  # seconds
SENTINEL_WAIT = 1.0  # seconds in which a sentinel must answer, before the next one is asked

Address = tuple[str, int]


class RedisServer:
    """The Redis that the options name.

    settings: the options, with defaults. name: what it is called in the log. longest_retry: seconds between
    two attempts to connect, at most.
    """

    longest_retry = 20.0

    def __init__(self, settings: Mapping[str, Any], reactor: Any) -> None:
        self.name = f"Redis at {settings['redis-host']}:{settings['redis-port']}"
        self._address: Address = (settings["redis-host"], settings["redis-port"])
        self._tls: bool = settings["redis-tls"]
        self._login = [settings[f"redis-{name}"] for name in ("username", "password", "db")]
        self._reactor = reactor

    def open(self, kind: Callable[..., RedisLink], prefix: str = "") -> Deferred[Any]:
        """Make a connection to the master; it is not yet logged in. kind: what to make of it."""
        return Deferred.fromCoroutine(self._open(partial(kind, self._reactor, *self._login, prefix)))

    async def _open(self, make: Callable[[], RedisLink]) -> RedisLink:
        return await self._connect(self._address, make, CONNECT_WAIT)

    async def _connect(self, address: Address, make: Callable[[], RedisLink], wait: float) -> RedisLink:
        host, port = address
        endpoint: Any = HostnameEndpoint(self._reactor, host, port, timeout=wait)
        if self._tls:
            # Verified with the system's certificates, or those that SSL_CERT_FILE names.
            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        factory = Factory.forProtocol(make)
        factory.noisy = False
        link: RedisLink = await endpoint.connect(factory)
        return link


class SentinelServer(RedisServer):
    """The master of this name, as one of the sentinels has it.

    Sentinels are asked without a password, and with TLS if Redis has it.
    """

    # A failover takes seconds; who asks only after 20 s loses more by waiting than by asking.
    longest_retry = 2.0

    def __init__(self, settings: Mapping[str, Any], reactor: Any) -> None:
        super().__init__(settings, reactor)
        self._sentinels: Sequence[Address] = settings["redis-sentinel"]
        self._master: str = settings["redis-sentinel-name"]
        self.name = f"Redis master {self._master!r}"

    async def _open(self, make: Callable[[], RedisLink]) -> RedisLink:
        failures = []
        for sentinel in self._sentinels:
            try:
                address = await self._ask(sentinel)
                return await self._connect_to_master(address, make)
            except (CancelledError, ConnectingCancelledError):
                raise  # time is over, or the server stops: the next one is not to be asked any more
            except Exception as error:
                failures.append(
                    f"{sentinel[0]}:{sentinel[1]}: {str(error).rstrip('.') or type(error).__name__}"
                )
        raise ConnectError(string=f"no sentinel leads to it ({'; '.join(failures)})")

    async def _ask(self, sentinel: Address) -> Address:
        link = await self._connect(
            sentinel, partial(RedisLink, self._reactor, None, None, None), SENTINEL_WAIT
        )
        try:
            asked = link.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
            answer = await asked.addTimeout(SENTINEL_WAIT, self._reactor)
        finally:
            link.transport.abortConnection()
        if not answer:
            raise ConnectError(string=f"it knows no master {self._master!r}")
        host, port = answer
        return host.decode(), int(port)

    async def _connect_to_master(self, address: Address, make: Callable[[], RedisLink]) -> RedisLink:
        link = await self._connect(address, make, CONNECT_WAIT)
        link.must_be_master = True
        return link


def redis_server(settings: Mapping[str, Any], reactor: Any) -> RedisServer:
    """The Redis that the options name, by address or by sentinels."""
    return (SentinelServer if settings["redis-sentinel"] else RedisServer)(settings, reactor)
