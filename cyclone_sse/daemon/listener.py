"""One listening socket, which accepts connections as long as there are descriptors for them.

When there are too many open files, Twisted's own port accepts and closes the waiting connections, with three
log lines for each: browsers reconnect at once, and the log grows by a megabyte a second. This class reserves
the last descriptors for files, brokers and the admin port. When the others are used up, it closes an idle
connection for each new one; if there is none, new connections wait in the kernel's queue, and the log has a
line once a minute.

Knows a socket and a factory of connections, but not the origin of the socket.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyclone_sse.log_limit import LogLimit

BACKLOG = 4096  # connections the kernel may keep waiting: all clients of a site may reconnect at once
PAUSE = 0.1  # seconds until a process without a free descriptor looks for one again
PACE = 0.01  # seconds until a process that is busy with TLS handshakes accepts again

_MOST_MS = 2**31 - 1  # of TCP_USER_TIMEOUT: 24 days; more than that is an error
_TURN = 100  # connections accepted in one turn of the reactor
_RESERVE = 32  # descriptors kept for files, databases and brokers; a quarter when there are few
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Errors of one connection that is gone, or that a firewall dropped: accept(2).
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

SocketAddress = IPv4Address | IPv6Address | UNIXAddress
# Makes a transport of what Twisted's own are made of: socket, protocol, peer as the socket reports it, None
# (the port, which is not one of Twisted's), number, reactor.
Transport = Callable[[Any, Any, Any, None, int, Any], Any]


def socket_address(family: int, name: Any) -> SocketAddress:
    """Convert the name of a socket, or of its peer, into an address of Twisted."""
    if family == socket.AF_UNIX:
        return UNIXAddress(name or None)
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *name)
    return IPv4Address("TCP", *name)


def set_inherited_options(listening: socket.socket, stall_timeout: float) -> None:
    """Set options that all connections of a socket inherit, which saves two calls for each.

    stall_timeout: seconds after which the kernel drops a peer that acknowledges nothing; 0: its default.
    """
    if listening.family == socket.AF_UNIX:
        return
    # Without this, an event would wait for the ACK of the one before.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if stall_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; RFC 5482
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(round(stall_timeout * 1000), _MOST_MS)
        )


class TcpServer(tcp.Server):
    """The server's side of one TCP connection without TLS."""

    def _getLogPrefix(self, applicationObject: object) -> str:
        # Twisted's own asks for the protocol's interfaces first, a hundredth of what a client costs.
        return type(applicationObject).__name__

    def doRead(self) -> Any:
        """Pass on what the client has sent. Returns why the connection has ended, if it has."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


@implementer(IListeningPort)
class Listener(FileDescriptor):
    """Accepts the connections of one socket, which is bound; ``startListening`` makes it listen.

    factory: makes their protocols. transport: makes their transports, without TLS if None. shared: other
    processes have this very socket. make_room: closes a connection that can be spared, returns False if there
    is none. is_busy: whether the connections that were accepted still cost too much. reserve: descriptors
    that are never used for connections.
    """

    log = Logger()

    def __init__(
        self,
        sock: socket.socket,
        factory: Any,
        reactor: Any,
        transport: Transport | None = None,
        *,
        shared: bool = False,
        make_room: Callable[[], bool] = lambda: False,
        is_busy: Callable[[], bool] = lambda: False,
        reserve: int = _RESERVE,
    ) -> None:
        super().__init__(reactor)
        sock.setblocking(False)
        self.socket = sock
        self.factory = factory
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self._family = sock.family
        self._open: Callable[[int], socket.socket] = partial(
            socket.socket, sock.family, socket.SOCK_STREAM, 0
        )
        plain: Any = unix.Server if self._family == socket.AF_UNIX else TcpServer
        self._transport = transport or plain
        self._shared = shared
        self._make_room = make_room
        self._is_busy = is_busy
        self._clock = reactor
        self._accepted = 0  # connections so far
        self._log_limit = LogLimit(reactor.seconds)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # A connection with this descriptor, or a higher one, uses the reserve.
        self._first_reserved = limit - min(reserve, limit // 4) if limit >= 0 else sys.maxsize
        self._most_over = max(1, min(reserve, limit // 4) // 2)  # of these in one turn

    def startListening(self) -> None:
        """Listen, and accept connections from now on."""
        self.socket.listen(BACKLOG)
        self.factory.doStart()
        self.connected = 1
        self.startReading()

    def stopListening(self) -> Deferred[None]:
        """Accept no more connections, and close the socket.

        Without this, the kernel would reset the waiting connections: they are accepted first, unless another
        process shares the socket and will accept them.
        """
        if self.connected:
            if not self._shared:
                self._accept(BACKLOG)
            self.connectionLost(Failure(CONNECTION_DONE))
        return succeed(None)

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket. Another process that shares it continues to listen."""
        super().connectionLost(reason)
        self.connected = 0
        self.socket.close()
        self.factory.doStop()

    def getHost(self) -> SocketAddress:
        """The address on which it listens."""
        return socket_address(self.socket.family, self.socket.getsockname())

    def doRead(self) -> None:
        """Accept waiting connections, up to a maximum for each turn."""
        if self._is_busy():
            self._pause(PACE)
        else:
            self._accept(_TURN)

    def _accept(self, most: int) -> None:
        over = 0  # connections of this turn that use the reserve
        for _ in range(most):
            try:
                # The socket's own `accept` makes an enum of the family and one of the type each time, a tenth
                # of what a client costs.
                descriptor, peer = self.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _FULL:
                    raise
                self._wait_for_room()
                return
            client = self._open(descriptor)
            if descriptor < self._first_reserved:
                self._connect(client, peer)
            elif _has_gone(client):
                client.close()  # Without this, a flood that is over keeps newcomers waiting behind it.
            else:
                self._connect(client, peer)
                over += 1
                if not self._make_room():
                    self._log_full()
                    self._pause(PAUSE)
                    return
                if over >= self._most_over:
                    return  # The connections that were closed free their descriptors in the next turn.

    def _connect(self, client: socket.socket, peer: Any) -> None:
        try:
            protocol = self.factory.buildProtocol(socket_address(self._family, peer))
            if protocol is None:
                client.close()
                return
            self._accepted += 1
            transport = self._transport(client, protocol, peer, None, self._accepted, self._clock)
            transport.repstr = f"<{type(protocol).__name__} #{self._accepted}>"
            protocol.makeConnection(transport)
        except OSError:
            client.close()  # it has gone already
        except Exception:
            # Without this, the failure of one connection would also be that of those behind it.
            self.log.failure("a connection failed at its start")
            client.close()

    def _pause(self, seconds: float) -> None:
        self.stopReading()
        self._clock.callLater(seconds, self._resume)

    def _wait_for_room(self) -> None:
        if self._make_room():
            self._pause(PACE)
        else:
            self._log_full()
            self._pause(PAUSE)

    def _log_full(self) -> None:
        if self._log_limit.acquire("no descriptor"):
            self.log.error(
                "no file descriptor is free (the limit is {n}): new connections wait",
                n=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )

    def _resume(self) -> None:
        if not self.connected:
            return
        if self._has_room() or not self._has_waiting():
            self.startReading()
        else:
            self._wait_for_room()

    def _has_waiting(self) -> bool:
        """Whether a connection waits to be accepted; otherwise no idle one needs to be closed."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def _has_room(self) -> bool:
        """Whether the next connection would get a descriptor that is not reserved."""
        try:
            probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(probe)
        return probe < self._first_reserved


def _has_gone(client: socket.socket) -> bool:
    """Whether the peer has closed the connection and sent nothing before."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
