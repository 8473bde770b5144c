"""One client over a transport that is not a socket: bytes are sent by its ``write``.

The server's own transports are sockets, with TLS too. This is for applications on another of Twisted's
transports, and for transports in memory.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from cyclone_sse.delivery.client import CLOSING, CORKED, FULL, OPEN, State
from cyclone_sse.delivery.socket_client import WRITE_SIZE, SocketClient
from cyclone_sse.direct_socket import ClientTransport, DirectSocket


@implementer(IPushProducer)
class TransportClient(SocketClient):
    """The stream of one client over a transport that only knows ``write``.

    The transport reports when its buffer is full (``pauseProducing``); from then on bytes wait here, with the
    same limit.
    """

    __slots__ = ("_paused",)

    def __init__(
        self, transport: ClientTransport, head: bytes, limit: int, nothing_waits: bool = True
    ) -> None:
        super().__init__(transport, head, limit, None, nothing_waits)
        self._paused = False

    def open(self) -> None:
        """Send the head, and with it what has been added since."""
        if self.state is CORKED:
            self.nothing_waits = True
            self.transport.registerProducer(self, streaming=True)
            super().open()

    def _send_now(self, data: bytes) -> int:
        view = memoryview(data)
        sent = 0
        while sent < len(view) and not self._paused:
            self.transport.write(bytes(view[sent : sent + WRITE_SIZE]))
            sent += WRITE_SIZE
        return min(sent, len(view))

    def _enter(self, state: State) -> None:
        self.state = state  # without a `ready_socket`: some pieces may have gone out when one fails

    def pauseProducing(self) -> None:
        """Queue bytes here from now on: the buffer of the transport is full."""
        self._paused = True
        if self.state is OPEN:
            self._enter_full()

    def resumeProducing(self) -> None:
        """Write the waiting bytes: the transport has room again."""
        self._paused = False
        while not self._paused:
            data = self._pop_waiting()
            if not data:
                if self.state is CLOSING:
                    self._close()
                elif self.state is FULL:
                    self._enter(OPEN)
                return
            self._unsent -= len(data)
            self._send_now(data)

    def _wait(self) -> None:
        self._enter_full()
        if not self._paused:  # called for missed events from the history: the transport has room
            self.resumeProducing()

    def _close(self) -> None:
        # Without this a TLS transport does not close: a producer may have more for it.
        self.transport.unregisterProducer()
        self.transport.loseConnection()


def make_client(
    transport: ClientTransport, head: bytes, limit: int, socket: DirectSocket | None, nothing_waits: bool
) -> SocketClient:
    """Make the client of the kind that this transport needs. socket: of the connection, if it has one."""
    if socket is None:
        return TransportClient(transport, head, limit, nothing_waits)
    return SocketClient(transport, head, limit, socket, nothing_waits)
