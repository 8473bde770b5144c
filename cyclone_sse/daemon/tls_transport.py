"""A TLS connection that encrypts and sends without delay, and whose handshake waits for its turn.

Twisted's TLS is a protocol above a plain transport: written bytes pass through a buffer in memory, a turn of
the reactor, and two ``epoll_ctl`` calls. In this class OpenSSL, through the standard library's ``ssl``,
writes to the socket itself, so that a write costs only the encryption and ``send()``, and an idle connection
has no buffers.

OpenSSL requires that a record that did not fit into the socket is written again with the same bytes, perhaps
with more after them, before anything else. Twisted's transport does that with its buffer, and
``delivery.socket_client`` with its queue.

A handshake costs about a millisecond, four with RSA of 4096 bits, and any client may start one, so
handshakes wait in a queue, of which a few are done in each turn of the reactor.

Knows nothing of HTTP, except for the answer to a client that speaks it without TLS.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

from twisted.internet import main, tcp
from twisted.python.failure import Failure

from cyclone_sse.http.responses import plain_http_refused
from cyclone_sse.run_queue import RunQueue

_RECORD = 16384  # bytes that fit in one TLS record (RFC 8446, 5.1)


class TlsServer(tcp.Server):
    """The server's side of one TLS connection over TCP.

    The socket is an ``SSLSocket`` without a handshake: the first reads do the handshake, and each of them
    waits for its turn in ``handshakes``.
    """

    handshakes: RunQueue
    _has_shaken_hands = False
    _write_waits = False  # to write, OpenSSL must first read: it shakes hands
    _read_waits = False  # to read, OpenSSL must first write
    _half_closed = False  # our side has ended, and its socket has no TLS any more

    def getHandle(self) -> TlsServer:  # type: ignore[override]
        """The object whose ``send`` takes bytes at once: this one."""
        return self

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; returns the number of bytes that were sent.

        Raises BlockingIOError if there is no room for any, and OSError if the connection is
        broken. Must not be called while the transport's own buffer is not empty.
        """
        size = len(data)
        try:
            if size <= _RECORD:
                return self.socket.send(data)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except ssl.SSLWantReadError:
            self._write_waits = True
            raise BlockingIOError from None
        view = memoryview(data)
        sent = 0
        with suppress(BlockingIOError):
            while sent < size:
                sent += self.send(view[sent : sent + _RECORD])
        if not sent:
            raise BlockingIOError
        return sent

    def getsockopt(self, *option: int) -> int | bytes:
        """Ask the kernel about the connection: how much the client has acknowledged, for example."""
        return self.socket.getsockopt(*option)

    def writeSomeData(self, data: bytes) -> int | Any:
        """Send as much as there is room for; returns 0 if there is none."""
        if not data:
            return 0
        try:
            return self.send(memoryview(data)[: self.SEND_LIMIT])
        except BlockingIOError:
            if self._write_waits:
                self.stopWriting()
            return 0
        except OSError:
            return main.CONNECTION_LOST

    def doWrite(self) -> Any:
        """Write, or read, for which OpenSSL waited for room."""
        if self._read_waits:
            self._read_waits = False
            self.stopWriting()
            return self.doRead()
        return super().doWrite()

    def doRead(self) -> Any:
        """Read, or wait for the turn of this handshake."""
        if self._has_shaken_hands:
            return self._read()
        self.stopReading()
        self.handshakes.add(self.continue_handshake)
        return None

    def continue_handshake(self) -> None:
        """Do the next step of the handshake, and read the data that follows it in the same bytes."""
        if not self.connected:
            return
        self.startReading()
        reason = self._read()
        if not self._has_shaken_hands and self.connected:
            self._has_shaken_hands = self.socket.version() is not None  # type: ignore[attr-defined]
        if reason is main.CONNECTION_DONE:
            self.stopReading()
            self.readConnectionLost(Failure(reason))
        elif reason is not None:
            self.stopReading()
            self.stopWriting()
            self.connectionLost(Failure(reason))

    def _read(self) -> Any:
        """Read all that OpenSSL has: the kernel reports its own bytes only."""
        while True:
            try:
                data = self.socket.recv(self.bufferSize)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                self._read_waits = True
                self.startWriting()
                return None
            except OSError as error:
                return self._broken(error)
            if self._write_waits:
                self._write_waits = False
                self.startWriting()
            if self._half_closed and data:
                return None
            result = self._dataReceived(data)
            if result is not None or not self.connected or not self.socket.pending():  # type: ignore[attr-defined]
                return result

    def _broken(self, error: OSError) -> Any:
        if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
            with suppress(OSError):  # below TLS, in clear
                socket.socket.send(self.socket, plain_http_refused())
        return main.CONNECTION_LOST

    def _send_close_notify(self) -> None:
        """Send the end of the connection (close_notify), and do not wait for the answer of the client."""
        with suppress(OSError, ValueError):  # It has not answered yet, has gone, or never shook hands.
            self.socket.unwrap()  # type: ignore[attr-defined]

    def _postLoseConnection(self) -> Any:
        self._send_close_notify()
        return super()._postLoseConnection()

    def _closeWriteConnection(self) -> None:
        self._send_close_notify()
        self._half_closed = True
        super()._closeWriteConnection()
