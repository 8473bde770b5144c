"""One listening socket: takes connections as long as there are descriptors for them.

Twisted's own port answers "too many open files" by taking and closing the connections that wait,
with three log lines for each: browsers come back at once, and the log grows by a megabyte a
second. Here they wait in the kernel's queue, some descriptors are left for files and brokers, and
the log says it once a minute.

Knows a socket and a factory of connections; nothing of where the socket came from.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

BACKLOG = 4096  # connections the kernel may keep waiting: a site's clients all come back at once
PAUSE = 0.5  # seconds until a full process looks for a free descriptor again
COMPLAINT = 60.0  # seconds between two log lines about it

_TURN = 100  # connections taken before others get their turn
_RESERVE = 32  # descriptors kept for files, databases and brokers; a quarter when there are few
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Errors of one connection that is gone by now, or that a firewall took: accept(2).
_GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
    }
)

Address = IPv4Address | IPv6Address | UNIXAddress
# Makes a transport: socket, protocol, peer as the socket tells it, number, reactor.
Transport = Callable[[socket.socket, Any, Any, int, Any], Any]


def address(family: int, name: Any) -> Address:
    """Twisted's form of what the socket says about itself or its peer."""
    if family == socket.AF_UNIX:
        return UNIXAddress(name or None)
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *name)
    return IPv4Address("TCP", *name)


def plain_transport(client: socket.socket, protocol: Any, peer: Any, number: int, reactor: Any) -> Any:
    """The transport of a connection without TLS."""
    kind: Any = unix.Server if client.family == socket.AF_UNIX else tcp.Server
    return kind(client, protocol, peer, None, number, reactor)


def prepare(listening: socket.socket, stall_timeout: float) -> None:
    """Set what all connections of a socket inherit, which spares two calls for each.

    stall_timeout: seconds after which the kernel gives up a peer that acknowledges nothing, 0: its own idea.
    """
    if listening.family == socket.AF_UNIX:
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no event waits for the last one's ACK
    if stall_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; RFC 5482
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout * 1000))


@implementer(IListeningPort)
class Listener(FileDescriptor):
    """Takes the connections of one socket, which is bound; ``startListening`` makes it listen.

    factory: makes their protocols. transport: makes their transports, without TLS if None. shared: other
    processes have this very socket too.
    """

    log = Logger()

    def __init__(
        self,
        sock: socket.socket,
        factory: Any,
        reactor: Any,
        transport: Transport | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__(reactor)
        sock.setblocking(False)
        self.socket = sock
        self.factory = factory
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self._transport = transport or plain_transport
        self._shared = shared
        self._clock = reactor
        self._taken = 0  # connections so far
        self._complained = -COMPLAINT
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._highest = limit - min(_RESERVE, limit // 4)  # the first descriptor that is too high

    def startListening(self) -> None:
        """Listen, and take connections from now on."""
        self.socket.listen(BACKLOG)
        self.factory.doStart()
        self.connected = 1
        self.startReading()

    def stopListening(self) -> Deferred[None]:
        """Take no more connections, and close the socket.

        Those that wait are still taken, or they would be reset; unless somebody else has the
        socket too, and takes them.
        """
        if self.connected:
            if not self._shared:
                self._accept(BACKLOG)
            self.connectionLost(Failure(CONNECTION_DONE))
        return succeed(None)

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket. One that somebody else has too goes on to listen there."""
        super().connectionLost(reason)
        self.connected = 0
        self.socket.close()
        self.factory.doStop()

    def getHost(self) -> Address:
        """Where it listens."""
        return address(self.socket.family, self.socket.getsockname())

    def doRead(self) -> None:
        """Take what waits, as much as fits in a turn."""
        self._accept(_TURN)

    def _accept(self, most: int) -> None:
        for _ in range(most):
            try:
                client, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno in _FULL:
                    self._rest()
                    return
                raise
            number = client.fileno()  # now: TLS puts a socket of its own in place of this one
            self._take(client, peer)
            if number >= self._highest:
                self._rest()
                return

    def _take(self, client: socket.socket, peer: Any) -> None:
        try:
            protocol = self.factory.buildProtocol(address(client.family, peer))
            if protocol is None:
                client.close()
                return
            self._taken += 1
            transport = self._transport(client, protocol, peer, self._taken, self._clock)
            transport.repstr = f"<{type(protocol).__name__} #{self._taken}>"
            protocol.makeConnection(transport)
        except OSError:
            client.close()  # it has gone already
        except Exception:
            # One connection's failure is not that of all which wait behind it.
            self.log.failure("a connection failed at its start")
            client.close()

    def _rest(self) -> None:
        self.stopReading()
        now = self._clock.seconds()
        if now - self._complained >= COMPLAINT:
            self._complained = now
            self.log.error(
                "no descriptor is free for more connections ({n} open files): they wait",
                n=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
        self._clock.callLater(PAUSE, self._look_again)

    def _look_again(self) -> None:
        if not self.connected:
            return
        if self._has_room():
            self.startReading()
        else:
            self._rest()

    def _has_room(self) -> bool:
        """Whether the next connection would get a descriptor that is not reserved."""
        try:
            probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(probe)
        return probe < self._highest
