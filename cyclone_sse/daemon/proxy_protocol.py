"""The PROXY protocol of ``--endpoint=haproxy:...``: Twisted's, and the headers that Twisted refuses.

A balancer may say that it does not know the client, with ``PROXY UNKNOWN`` and no addresses, for example for
its health checks: such a connection has the balancer's own address. The rule is that of "The PROXY protocol,
Versions 1 & 2", 2.1 (haproxy.org).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._info import ProxyInfo
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from zope.interface import implementer


class ProxyLine(V1Parser):
    """A header of version 1, which is a line."""

    @classmethod
    def parse(cls, line: bytes) -> ProxyInfo:
        """The addresses of a line. Raises InvalidProxyHeader."""
        if line == b"PROXY UNKNOWN":
            return ProxyInfo(line, None, None)
        try:
            info = super().parse(line)
            source: Any = info.source
            if source is not None:
                # Without this, any text would be the client's address in the log, and for --auth-url, also
                # after the "%" of a zone, which no client of a balancer has.
                ip_address(source.host.replace("%", " "))
        except ValueError:  # Without this, a port that is not a number would lead to a traceback in the log.
            raise InvalidProxyHeader from None
        return info


@implementer(IHalfCloseableProtocol)
class ProxiedConnection(HAProxyProtocolWrapper):
    """A connection that begins with a header of either version; Twisted's own cannot be half closed.

    awaits_address: whether the header has not been read, so that the address is still the balancer's.
    """

    awaits_address = True

    def dataReceived(self, data: bytes) -> None:
        """Read the header, then pass the bytes after it on."""
        if self._parser is None and ProxyLine.PROXYSTR.startswith(data[:5]):
            self._parser = ProxyLine()
        super().dataReceived(data)
        if self.awaits_address and self._proxyInfo is not None:
            self.awaits_address = False
            server = getattr(self.wrappedProtocol, "server", None)
            if server is not None:
                # Without this, the connections of all clients would count as those of the balancer.
                server.note_address(self.wrappedProtocol)

    def loseWriteConnection(self) -> None:
        """Send no more, and read on."""
        transport: Any = self.transport
        transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        """Pass on that the client sends no more: without this, it would not receive a later answer."""
        IHalfCloseableProtocol(self.wrappedProtocol).readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Pass on that the last bytes were sent."""
        IHalfCloseableProtocol(self.wrappedProtocol).writeConnectionLost()


def proxied(factory: Any) -> HAProxyWrappingFactory:
    """A factory of connections that begin with a header, and then are those of this factory."""
    wrapper = HAProxyWrappingFactory(factory)
    made: Any = ProxiedConnection
    wrapper.protocol = made
    return wrapper


def is_proxied(factory: Any) -> bool:
    """Whether it is the factory of Twisted's ``haproxy:`` endpoint."""
    return isinstance(factory, HAProxyWrappingFactory)
