"""What a connection reads in one go, processed in pieces over several turns.

One read may hold two thousand messages, and each takes some time until it is delivered: without this, a burst
of small messages would stop the server for a tenth of a second at each read.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer, IReactorTime

READ_AT_ONCE = 8192  # bytes: about 10 ms, where they are messages of AMQP of a few bytes


class SlicedReads:
    """Passes on what is read, READ_AT_ONCE bytes in a turn. The transport is paused until all is passed on.

    receive: processes bytes.
    """

    def __init__(self, receive: Callable[[bytes], object], reactor: IReactorTime) -> None:
        self._receive = receive
        self._reactor = reactor
        self._rest = b""
        self._paused: IPushProducer | None = None

    def read(self, data: bytes, transport: IPushProducer) -> None:
        """Pass on these bytes after all before them."""
        self._rest += data
        if self._paused is None:  # else a transport with TLS had more
            self._pass_on(transport)

    def stop(self) -> None:
        """Drop the rest, since the connection is lost."""
        self._rest = b""

    def _pass_on(self, transport: IPushProducer) -> None:
        piece, self._rest = self._rest[:READ_AT_ONCE], self._rest[READ_AT_ONCE:]
        self._receive(piece)
        if self._rest:
            if self._paused is None:
                self._paused = transport
                transport.pauseProducing()
            self._reactor.callLater(0, self._pass_on, transport)
        elif self._paused is not None:
            self._paused = None
            transport.resumeProducing()
