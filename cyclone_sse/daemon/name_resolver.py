"""Looks up the addresses of hosts, in threads for which the end of the process does not wait.

Twisted's own resolver uses the reactor's pool of threads, to which each attempt to connect adds a lookup.
While the name server does not answer, these pile up, and the reactor waits for all of them when it stops.

Knows names and addresses; nothing of who asks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from cyclone_sse.reactors import FromThread

_FAMILIES = {
    frozenset([IPv4Address]): socket.AF_INET,
    frozenset([IPv6Address]): socket.AF_INET6,
}
_Question = tuple[str, int, int]  # host, port and family
_LookUp = Callable[[str, int, int, int], Sequence[tuple[Any, ...]]]


def install_name_resolver(reactor: Any) -> None:
    """Make the reactor look up hosts in this way, for all connections that it opens."""
    reactor.installNameResolver(NameResolver(reactor))


@implementer(IHostResolution)
class _Resolution:
    """A lookup under way, for Twisted. name: of the host."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: getaddrinfo(3) cannot be interrupted."""


@implementer(IHostnameResolver)
class NameResolver:
    """One thread for each host that is looked up, however many connections wait for its addresses.

    look_up: getaddrinfo(3), called in that thread.
    """

    def __init__(self, reactor: FromThread, look_up: _LookUp = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._waiting: dict[_Question, list[IResolutionReceiver]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look up this host; the receiver is told its addresses, none if there is no such host."""
        resolution: IHostResolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        family = _FAMILIES.get(frozenset(addressTypes or ()), socket.AF_UNSPEC)
        question = hostName, portNumber, int(family)
        if question in self._waiting:
            self._waiting[question].append(resolutionReceiver)
            return resolution
        self._waiting[question] = [resolutionReceiver]
        try:
            # A daemon: without this, the process could not end before the answer.
            Thread(target=self._run, args=(question,), name="resolver", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            self._answer(question, ())
        return resolution

    def _run(self, question: _Question) -> None:
        found: Sequence[tuple[Any, ...]] = ()
        try:
            found = self._look_up(*question, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            pass  # there is no such host, or its name cannot be one
        finally:
            self._reactor.callFromThread(self._answer, question, found)

    def _answer(self, question: _Question, found: Sequence[tuple[Any, ...]]) -> None:
        addresses = [
            IPv6Address("TCP", *name) if family == socket.AF_INET6 else IPv4Address("TCP", *name)
            for family, _, _, _, name in found
        ]
        for receiver in self._waiting.pop(question):
            for address in addresses:
                receiver.addressResolved(address)
            receiver.resolutionComplete()
