"""The headers of proxies about the client: its address, and the host and scheme of the URL that it used.

Only proxies that ``--trust-proxy`` covers are believed: without this, each client could choose the address by
which it is limited and logged.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic

from twisted.logger import Logger

from cyclone_sse.http.headers import Headers
from cyclone_sse.log_limit import LogLimit

Trusted = bool | tuple[IPv4Network | IPv6Network, ...]


class Proxies:
    """The proxies in front of this server.

    trusted: whether there is a proxy, or the networks of the proxies. clock: seconds, for the log.
    """

    log = Logger()

    def __init__(self, trusted: Trusted, clock: Callable[[], float] = monotonic) -> None:
        self._networks = () if isinstance(trusted, bool) else trusted
        self._trust_any = trusted is True
        self._log_limit = LogLimit(clock)

    def client_address(self, headers: Headers, peer: str) -> str:
        """The client's address: the peer's, unless the peer is a proxy that sends another.

        peer: the address at the other end of the connection; another text for a UNIX socket.
        """
        chain = headers.exact("X-Forwarded-For", "")
        if not chain or not self.trusts(peer):
            return peer
        address = peer
        for entry in reversed(chain.split(",")):
            found = read_address(entry)
            if found is None:
                self._log_unreadable()
                break
            address = str(found)
            if self._trust_any or not self._covers(found):
                break
        return address

    def public_host(self, headers: Headers, peer: str) -> str:
        """Host and port in the URL that the client used."""
        own = headers.exact("Host", "")
        return self._last(headers, "X-Forwarded-Host", peer) or own

    def public_scheme(self, headers: Headers, peer: str, own: str) -> str:
        """``http`` or ``https`` in that URL. own: that of the connection."""
        scheme = self._last(headers, "X-Forwarded-Proto", peer).lower()
        return scheme if scheme in ("http", "https") else own

    def _last(self, headers: Headers, name: str, peer: str) -> str:
        value = headers.exact(name, "")
        return value.rpartition(",")[2].strip(" \t") if value and self.trusts(peer) else ""

    def trusts(self, peer: str) -> bool:
        """Whether the peer is a trusted proxy; a peer on a UNIX socket always is."""
        if self._trust_any or not self._networks:
            return self._trust_any
        address = read_address(peer)
        return address is None or self._covers(address)

    def _covers(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def _log_unreadable(self) -> None:
        if self._log_limit.acquire("unreadable"):
            self.log.warn("a proxy sends an X-Forwarded-For in which no address can be read")


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in ``IP``, ``IP:PORT``, ``[IPv6]`` or ``[IPv6]:PORT``; None if there is none."""
    text = text.strip(' \t"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
