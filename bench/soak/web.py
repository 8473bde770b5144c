"""The soak's own HTTP client, over asyncio: a stream that is read in pieces, and a POST.

A library would hide the faults that the soak looks for: cut connections and unread buffers.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from urllib.parse import urlencode

from tests.harness.eventstream import Event, Parser

READ = 65536
RECEIVE_BUFFER = 32768  # bytes
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


class Ended(Exception):
    """The end of a response, or of a connection."""


class Stream:
    """The response to one subscription."""

    position = ""  # at the stream's start: the id with which a client resumes that has received no event

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parser: Parser) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = parser
        self._left: int | None = None  # bytes of the body that are still missing, if its length is known
        self._chunked = False  # the body is chunked (Transfer-Encoding)

    @classmethod
    async def open(
        cls,
        port: int,
        channels: Sequence[str],
        last_event_id: str,
        parser: Parser,
        *,
        token: str,
        query: Sequence[tuple[str, str]] = (),
        poll: bool = False,
    ) -> Stream:
        """Send the request, and read the head of the response. Raises Ended if there is none, or no 200."""
        target = "/?" + urlencode([*(("channels", name) for name in channels), *query])
        lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {token}"]
        lines += [f"Last-Event-ID: {last_event_id}"] if last_event_id else []
        lines += ["X-Requested-With: XMLHttpRequest"] if poll else []
        try:
            plain = socket.socket()
            plain.setblocking(False)
            # Without this, the kernel would buffer megabytes for a client that does not read.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=plain, limit=READ)
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            stream = cls(reader, writer, parser)
            await stream._read_head()
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Ended(str(error)) from None
        return stream

    async def _read_head(self) -> None:
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if status.split()[1] != "200":
            self.cut()
            raise Ended(status)
        if "content-length" in headers:
            self._left = int(headers["content-length"])
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self.position = headers.get("last-event-id", "")

    async def events(self) -> list[Event]:
        """Wait for some bytes, and return the events that they complete. Raises Ended."""
        if self._left == 0:
            raise Ended("the answer is whole")
        try:
            received = await (self._read_chunk() if self._chunked else self._reader.read(READ))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Ended(str(error)) from None
        if not received:
            raise Ended("closed by the server")
        if self._left is not None:
            self._left -= len(received)
        return self._parser.feed(received)

    async def _read_chunk(self) -> bytes:
        """Read the next chunk of the body; returns nothing after the last (RFC 9112 7.1)."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    def cut(self, reset: bool = False) -> None:
        """Close the connection as a browser does or, with `reset`, with a TCP reset."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._writer.get_extra_info("socket")
        return found


class Poster:
    """A persistent connection that publishes one message after another."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def publish(self, channels: Sequence[str], message: str) -> None:
        """Publish, and wait for the answer. Raises OSError if there is none, RuntimeError for a refusal."""
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._connection
        body = urlencode(
            [("key", self._key), ("message", message), *(("channel", name) for name in channels)]
        )
        head = (
            f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.partition("content-length: ")[2].split("\r\n")[0])
        said = await reader.readexactly(length)
        if answer.startswith("http/1.1 503"):
            raise ConnectionError(said.decode())
        if not answer.startswith("http/1.1 200"):
            raise RuntimeError(f"not published: {said.decode()}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection[1].close()
        self._connection = None
