"""A server that answers by a script, also wrongly, for tests of the clients that publish."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.patience import PATIENCE


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


OK = answer("200 OK", b'{"status": "ok", "subscribers": 0}')


class Scripted:
    """A server that answers each request by the next of these, closes at None, and keeps what was asked.

    ``b""`` is no answer at all; after the last one it answers OK. An answer with ``Connection: close`` also
    closes.
    """

    def __init__(self, *answers: bytes | None, port: int = 0) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.opened = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of all requests."""
        heads = [asked.decode().partition("\r\n\r\n")[0].lower() for asked in self.asked]
        return [head.partition("idempotency-key: ")[2].partition("\r\n")[0] for head in heads]

    def reply(self, asked: bytes) -> bytes | None:
        """The bytes to send for a request; None closes the connection."""
        return self.answers.pop(0) if self.answers else OK

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.opened += 1
            self._held.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        received = b""
        try:
            while chunk := client.recv(65536):
                received += chunk
                head, end, body = received.partition(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                if not end or len(body) < size:
                    continue
                self.asked.append(received)
                received = b""
                reply = self.reply(self.asked[-1])
                if reply is None:
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(reply)
                if b"Connection: close" in reply:
                    client.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            return

    def close(self) -> None:
        """Close everything."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for held in self._held:
            held.close()


class Lossy(Scripted):
    """A network that passes each request on to a real server, and loses every third answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__()

    def reply(self, asked: bytes) -> bytes | None:
        head, _, body = asked.partition(b"\r\n\r\n")
        method, path, _ = head.decode().split("\r\n")[0].split(" ")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, fields | {"Connection": "close"})
            with connection.getresponse() as got:
                passed = answer(f"{got.status} {got.reason}", got.read())
        finally:
            connection.close()
        return passed if len(self.asked) % 3 else None


@contextmanager
def lossy(port: int) -> Iterator[Lossy]:
    """Such a network for a while."""
    network = Lossy(port)
    try:
        yield network
    finally:
        network.close()


@contextmanager
def scripted(*answers: bytes | None) -> Iterator[Scripted]:
    """Such a server for a while."""
    server = Scripted(*answers)
    try:
        yield server
    finally:
        server.close()
