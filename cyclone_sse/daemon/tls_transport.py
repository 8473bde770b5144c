"""A TLS connection that encrypts and sends at once.

Twisted's TLS is a protocol above a plain transport: what is written goes through a buffer in
memory, a turn of the reactor, and two ``epoll_ctl`` calls. Here OpenSSL, by the standard library's
``ssl``, writes to the socket itself, so that a write costs what the encryption and ``send()``
cost, and an idle connection holds no buffers.

What OpenSSL asks of its user: a record that did not fit into the socket must be offered again
with the same bytes, and perhaps more behind them, before anything else. Twisted's transport does
that with its buffer, and so does ``delivery.subscriber`` with its queue.

Knows nothing of HTTP, but for the words to somebody who speaks it in clear.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

from twisted.internet import main, tcp

from cyclone_sse.http.responses import plain_http_refused

_RECORD = 16384  # bytes that fit in one TLS record (RFC 8446, 5.1)


class TlsServer(tcp.Server):
    """The server's side of one TLS connection over TCP.

    Its socket is an ``SSLSocket`` that has not shaken hands: that comes with the first reads.
    """

    _write_waits = False  # to write, OpenSSL must first read: it shakes hands
    _read_waits = False  # to read, OpenSSL must first write
    _half_closed = False  # our side has ended, and its socket knows no TLS any more

    def getHandle(self) -> TlsServer:  # type: ignore[override]
        """What takes bytes at once, by ``send``."""
        return self

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; gives the number of bytes that are out.

        Raises BlockingIOError when there is no room for any, and OSError when the connection is
        broken. Must not be called while the transport's own buffer holds something.
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
        """What the kernel knows of the connection: how much the client has acknowledged, say."""
        return self.socket.getsockopt(*option)

    def writeSomeData(self, data: bytes) -> int | Any:
        """Send as much as there is room for; 0 when there is none."""
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
        """There is room."""
        if self._read_waits:
            self._read_waits = False
            self.stopWriting()
            return self.doRead()
        return super().doWrite()

    def doRead(self) -> Any:
        """Shake hands, and read all that OpenSSL has: the kernel tells of its own bytes only."""
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

    def _goodbye(self) -> None:
        """Tell the client that this is the end (close_notify), and do not wait for its answer."""
        with suppress(OSError, ValueError):  # it has not answered yet, has gone, or never shook hands
            self.socket.unwrap()  # type: ignore[attr-defined]

    def _postLoseConnection(self) -> Any:
        self._goodbye()
        return super()._postLoseConnection()

    def _closeWriteConnection(self) -> None:
        self._goodbye()
        self._half_closed = True
        super()._closeWriteConnection()
