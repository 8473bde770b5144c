"""The address of Redis: a fixed one, or that of the master according to its sentinels.

All Redis brokers connect with this module. Sentinels are asked for each connection, so that a failover is
just a lost connection and a new one; and also regularly, since the old master may continue to run. The server
that the sentinels name must confirm that it is the master: they name the old one until they have agreed, and
one that was restarted without what it had learned names the first master forever if that one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from cyclone_sse.brokers.broker_tls import BrokerTls
from cyclone_sse.brokers.link import WrongServer, text_of
from cyclone_sse.brokers.redis_link import RedisLink

CONNECT_WAIT = 5.0  # seconds
SENTINEL_WAIT = 1.0  # seconds in which a sentinel must answer, before the next one is asked

RedisAddress: TypeAlias = tuple[str, int]


class RedisServer:
    """The Redis server that the options name.

    settings: the options, with defaults. name: its name in the log. longest_retry: maximum seconds between
    two attempts to connect.
    """

    longest_retry = 20.0

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime) -> None:
        self._socket: str | None = settings.get("redis-socket")  # of a --redis-url
        self._address: RedisAddress = (settings["redis-host"], settings["redis-port"])
        self.name = f"Redis at {self._socket or ':'.join(map(str, self._address))}"
        self._tls = BrokerTls(settings) if settings["redis-tls"] else None
        self._login = [settings[f"redis-{name}"] for name in ("username", "password", "db")]
        self._reactor = reactor

    def open(self, kind: Callable[..., RedisLink], prefix: str = "") -> Deferred[Any]:
        """Open a connection to the master, without logging in. kind: the class of the connection."""
        return Deferred.fromCoroutine(self._open(partial(kind, self._reactor, *self._login, prefix)))

    async def check(self, links: Iterable[RedisLink]) -> None:
        """Raise WrongServer if one of these connections is to a server that is no longer the master."""

    async def _open(self, make: Callable[[], RedisLink]) -> RedisLink:
        return await self._connect(self._address, make, CONNECT_WAIT)

    async def _connect(self, address: RedisAddress, make: Callable[[], RedisLink], wait: float) -> RedisLink:
        host, port = address
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, port, timeout=wait)
        if self._socket is not None:
            endpoint = UNIXClientEndpoint(self._reactor, self._socket, timeout=wait)
        elif self._tls is not None:
            endpoint = self._tls.wrap(endpoint, host)
        factory = Factory.forProtocol(make)
        factory.noisy = False
        connecting: Deferred[Any] = endpoint.connect(factory)
        link: RedisLink = await connecting
        return link


class SentinelServer(RedisServer):
    """The master with this name, according to the sentinels.

    Sentinels have a password of their own, if any, and use TLS if Redis does.
    """

    # A failover takes seconds; asking again only after 20 s would lose more than it saves.
    longest_retry = 2.0

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime) -> None:
        super().__init__(settings, reactor)
        self._sentinels: Sequence[RedisAddress] = settings["redis-sentinel"]
        self._master: str = settings["redis-sentinel-name"]
        self._password: str | None = settings["redis-sentinel-password"]
        self.name = f"Redis master {self._master!r}"

    async def check(self, links: Iterable[RedisLink]) -> None:
        """Ask the sentinels, and compare with where these connections lead.

        Raises WrongServer if another server is the master.
        """
        addresses = {link.address for link in links if link.address is not None}
        for sentinel in self._sentinels:
            try:
                named = await self._ask(sentinel)
                if not addresses - {named}:
                    return
                # Without this, a sentinel that is wrong would end working connections again and again.
                is_master = await self._is_master(named)
            except (CancelledError, ConnectingCancelledError):
                raise
            except Exception:
                continue  # the next one may know; if none does, there is nothing to compare with
            if is_master:
                raise WrongServer(f"the sentinels name {named[0]}:{named[1]} as the master")

    async def _is_master(self, address: RedisAddress) -> bool:
        """Whether the server at this address is a master. Raises an exception if it does not answer."""
        make = partial(RedisLink, self._reactor, *self._login)
        link = await self._connect(address, make, SENTINEL_WAIT)
        try:
            await link.log_in().addTimeout(SENTINEL_WAIT, self._reactor)
        except WrongServer:
            return False
        finally:
            link.transport.abortConnection()
        return True

    async def _open(self, make: Callable[[], RedisLink]) -> RedisLink:
        failures = []
        for sentinel in self._sentinels:
            try:
                address = await self._ask(sentinel)
                link = await self._connect(address, make, CONNECT_WAIT)
            except (CancelledError, ConnectingCancelledError):
                raise  # timed out, or the server stops: ask no other sentinel
            except Exception as error:
                failures.append(f"{sentinel[0]}:{sentinel[1]}: {text_of(error)}")
            else:
                link.address = address
                return link
        raise ConnectError(string=f"not reached through any sentinel ({'; '.join(failures)})")

    async def _ask(self, sentinel: RedisAddress) -> RedisAddress:
        link = await self._connect(
            sentinel, partial(RedisLink, self._reactor, None, None, None), SENTINEL_WAIT
        )
        try:
            if self._password:
                await link.command("AUTH", self._password).addTimeout(SENTINEL_WAIT, self._reactor)
            asked = link.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
            answer = await asked.addTimeout(SENTINEL_WAIT, self._reactor)
        finally:
            link.transport.abortConnection()
        if not answer:
            raise ConnectError(string=f"it does not know the master {self._master!r}")
        host, port = answer
        return host.decode(), int(port)


def redis_server(settings: Mapping[str, Any], reactor: IReactorTime) -> RedisServer:
    """The Redis server of the options, with an address or with sentinels."""
    return (SentinelServer if settings["redis-sentinel"] else RedisServer)(settings, reactor)
