"""The publisher of `client.py`: one nonblocking connection."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from urllib.parse import SplitResult, urlencode

READ = 16384  # bytes for each recv(), a size that is cheap to allocate
HEAD_END = b"\r\n\r\n"


class LoadError(Exception):
    """The reason why nothing can be measured, in one line."""


class Publisher:
    """A persistent connection that posts one message to `/publish` repeatedly, without blocking."""

    def __init__(
        self, where: SplitResult, poll: select.epoll, channel: str, message: str, key: str | None
    ) -> None:
        fields = {"channel": channel, "message": message} | ({"key": key} if key else {})
        body = urlencode(fields, errors="surrogateescape").encode()  # bytes of the command line as they are
        head = (
            f"POST /publish HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        try:
            self.socket = socket.create_connection((where.hostname, where.port or 80), timeout=10)
        except OSError as error:
            raise LoadError(f"no publishing connection: {error}") from None
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unsent = b""
        self._received = b""
        self.answered = 0  # messages that the server has answered
        self._poll = poll
        poll.register(self.socket.fileno(), select.EPOLLIN)

    def publish(self) -> None:
        """Send the message again; bytes for which the kernel has no room are sent later."""
        self._unsent += self.request
        self.ready(select.EPOLLOUT)

    def ready(self, event: int) -> None:
        """Continue as far as epoll allows. Raises LoadError if the server refuses or disconnects."""
        try:
            if event & select.EPOLLOUT:
                self._write()
            if event & ~select.EPOLLOUT:
                self._read()
        except OSError as error:
            raise LoadError(f"the publishing connection broke: {error.strerror}") from None
        except (IndexError, ValueError):
            raise LoadError("what answers on the publishing connection is not HTTP") from None

    def _write(self) -> None:
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        self._poll.modify(self.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def _read(self) -> None:
        received = self.socket.recv(READ)
        if not received:
            raise LoadError("the server closed the publishing connection")
        self._received += received
        while HEAD_END in self._received:
            head, _, rest = self._received.partition(HEAD_END)
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            if len(rest) < length:
                return
            if head.split(b" ", 2)[1] != b"200":
                raise LoadError(f"publishing was refused: {rest[:length].decode(errors='replace').strip()}")
            self._received = rest[length:]
            self.answered += 1
