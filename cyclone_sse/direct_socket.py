"""The socket of a connection, for bytes that are to be sent at once.

Twisted's ``transport.write`` costs two ``epoll_ctl`` calls and a second trip through the reactor each time.
If no bytes wait, they can be sent directly to the socket.
"""

from __future__ import annotations

from typing import Any, Protocol


class DirectSocket(Protocol):
    """A socket that does not block; with TLS, the transport itself, which encrypts."""

    def send(self, data: bytes, /) -> int:
        """Send as many of these bytes as there is room for, and return their number.

        Raises BlockingIOError if there is no room, and OSError if the connection is broken. Must not be
        called while bytes wait in the transport's own buffer.
        """


class ClientTransport(Protocol):
    """The methods of a Twisted transport, of TCP, TLS or a UNIX socket, that a stream needs."""

    def write(self, data: bytes, /) -> object:
        """Send these bytes after the ones before."""

    def registerProducer(self, producer: Any, streaming: bool) -> object:
        """Ask the producer for bytes when there is room for them."""

    def unregisterProducer(self) -> object:
        """Request no more bytes from the producer."""

    def pauseProducing(self) -> object:
        """Stop reading."""

    def resumeProducing(self) -> object:
        """Read again."""

    def loseConnection(self) -> object:
        """End the connection when all bytes are sent."""

    def abortConnection(self) -> object:
        """End the connection at once."""

    def getHandle(self) -> Any:
        """The socket, or the TLS connection on it; missing where there is neither."""


def direct_socket(transport: ClientTransport) -> DirectSocket | None:
    """The object that sends bytes of this transport at once; None for a transport without one.

    The class is inspected, not the instance: the wrapper of a TLS connection passes unknown attributes on to
    the socket below it, which would send bytes unencrypted. ``getHandle`` proves nothing either, since a
    TLS connection has one of its own, which does not send.
    """
    if not hasattr(type(transport), "writeSomeData"):
        return None
    below: DirectSocket = transport.getHandle()
    return below
