"""Requests that any client can repeat without end: each flood costs the server as much as it can."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.harness.patience import PATIENCE

STATS = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /publish HTTP/1.1\r\nHost: x\r\n"


class Flood:
    """Repeats one request in a thread until it is stopped. A round is short."""

    def __init__(self, port: int, flood: Callable[[Flood], None]) -> None:
        self.port = port
        self.rounds = 0
        self.held: list[socket.socket] = []  # connections that stay open
        self.unsent: dict[socket.socket, bytes] = {}  # what the server has not taken yet
        self._flood = flood
        self._stop = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._flood(self)
                self.rounds += 1
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        """Stop it, and release what it held."""
        self._stop.set()
        self._thread.join(PATIENCE)
        for each in self.held:
            each.close()
        assert self.failure is None, repr(self.failure)

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        """One more connection, which is never waited for longer than a moment."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        sock.settimeout(0.2)
        return sock

    def say(self, *parts: bytes, read: bool = True) -> bytes:
        """Send it on a connection of its own, as far as the server takes it; gives the answer's beginning."""
        with self.connect() as sock, suppress(OSError):
            for part in parts:
                sock.sendall(part)
            if read:
                return sock.recv(65536)
        return b""


def with_body(kind: bytes, body: bytes) -> bytes:
    return POST + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


def pipelined_and_never_read(flood: Flood) -> None:
    if len(flood.held) < 3:  # each can hide megabytes in the kernel
        flood.held.append(flood.connect(receive_buffer=4096))
        flood.held[-1].setblocking(False)
    for sock in flood.held:
        # Whole requests only: what is cut in two would be malformed with the next one behind it.
        rest = flood.unsent.pop(sock, STATS * 500)
        with suppress(BlockingIOError):
            rest = rest[sock.send(rest) :]
        if rest:
            flood.unsent[sock] = rest


def nested_multipart(flood: Flood) -> None:
    kind = b"multipart/form-data; boundary=A"
    part = b"--A\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n"
    flood.say(with_body(kind, part * 20_000))
    flood.say(with_body(kind, b"(" * 1_000_000))


def tiny_chunks(flood: Flood) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    flood.say(head, b"2\r\nxx\r\n" * 50_000, read=False)
    flood.say(head.replace(b"/publish", b"/stats"), b"2\r\nxx\r\n" * 50_000)


def heads_that_do_not_end(flood: Flood) -> None:
    if len(flood.held) < 200:
        flood.held.append(flood.connect())
        flood.held[-1].sendall(POST + b"A: " + b"b" * 15_000)
    flood.say(POST + b"A: b\r\n" * 10_000)
    flood.say(b"GET /" + b"a" * 100_000)


def one_publish_to_ten_thousand_channels(flood: Flood) -> None:
    body = json.dumps({"channel": [f"flood-{flood.rounds}-{n}" for n in range(10_000)], "message": "x"})
    flood.say(with_body(b"application/json", body.encode()))


def deep_json(flood: Flood) -> None:
    flood.say(with_body(b"application/json", b"[" * 500_000))
    flood.say(with_body(b"application/x-www-form-urlencoded", b"a&" * 400_000))


def batches_that_are_too_long(flood: Flood) -> None:
    flood.say(with_body(b"application/x-ndjson", b"1\n" * 500_000))
    flood.say(with_body(b"application/json", b"[" + b"{}," * 300_000 + b"{}]"))
    flood.say(with_body(b"application/x-www-form-urlencoded", b"%41" * 300_000))


def streams_that_are_not_read(flood: Flood) -> None:
    if len(flood.held) < 60:
        flood.held.append(flood.connect(receive_buffer=4096))
        flood.held[-1].sendall(b"GET /?channels=loud HTTP/1.1\r\nHost: x\r\n\r\n")
    flood.say(with_body(b"application/x-www-form-urlencoded", b"channel=loud&message=" + b"x" * 100_000))


def streams_with_too_many_channels(flood: Flood) -> None:
    query = "&".join(f"channels={n}" for n in range(900)).encode()
    flood.say(b"GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n" % query)


def connections_that_come_and_go(flood: Flood) -> None:
    for _ in range(20):
        flood.connect().close()
    flood.say(b"\x16\x03\x01" + b"x" * 100)


def patterns_that_overlap(flood: Flood) -> None:
    query = "&".join(f"channels={'*' * (n + 1)}" for n in range(100)).encode()
    flood.say(b"GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n" % query)
    if len(flood.held) < 50:
        few = "&".join(f"channels={'*' * (n + 1)}q" for n in range(20)).encode()
        flood.held.append(flood.connect())
        flood.held[-1].sendall(b"GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n" % few)


# What each may cost at most, whatever it sends: MiB of resident memory.
FLOODS: dict[Callable[[Flood], None], int] = {
    pipelined_and_never_read: 8,
    nested_multipart: 20,
    tiny_chunks: 20,
    heads_that_do_not_end: 20,
    one_publish_to_ten_thousand_channels: 100,
    deep_json: 20,
    batches_that_are_too_long: 20,
    streams_that_are_not_read: 60,
    streams_with_too_many_channels: 20,
    connections_that_come_and_go: 20,
}
