"""A body in chunks (RFC 9112 7.1), read as it arrives.

The memory is limited: the data by the limit of a body, and sizes, extensions and trailers by the data. A call
reads a limited number of chunks: without that, a body in chunks of one byte would block the server for other
clients.
"""

from __future__ import annotations

import re

from cyclone_sse.errors import Refusal
from cyclone_sse.http.headers import FIELD, FORBIDDEN_BYTES, MAX_HEAD

CHUNKS_AT_ONCE = 500  # chunks read in one call: about 2 ms
MAX_CHUNK_LINE = 4 * 1024  # bytes of a chunk's size and its extensions

_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t -~\x80-\xff]*)?")


class ChunkedBody:
    """One body. max_body: bytes.

    data: what has arrived so far. stopped_early: whether the last call left chunks in the buffer for the next
    one.
    """

    __slots__ = ("_chunk_left", "_max_body", "_overhead", "_trailers", "data", "stopped_early")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._chunk_left: int | None = None  # of its data; None: its size is due
        self._trailers = False  # the last chunk has been read
        self._overhead = 0  # bytes of chunks that are not data
        self.data = bytearray()
        self.stopped_early = False

    def read(self, buffer: bytearray) -> bool:
        """Read from the buffer; returns whether the body is complete. Raises Refusal."""
        position = 0
        sizes = 0
        self.stopped_early = False
        try:
            while not self._trailers:
                if self._chunk_left is None:
                    if sizes == CHUNKS_AT_ONCE:
                        self.stopped_early = True
                        return False
                    sizes += 1
                    after = self._read_size(buffer, position)
                else:
                    after = self._read_data(buffer, position, self._chunk_left)
                if after == position:
                    return False
                position = after
        finally:
            del buffer[:position]
        return self._read_trailers(buffer)

    def _read_size(self, buffer: bytearray, position: int) -> int:
        """Read the size of a chunk; returns where its data starts, ``position`` if more bytes are needed."""
        end = _line_end(buffer, position)
        if end < 0:
            return position
        match = _CHUNK.fullmatch(buffer, position, end)
        if match is None:
            raise Refusal(400, "malformed request: the size of a chunk is not hexadecimal")
        size = int(match[1], 16)
        if size > self._max_body - len(self.data):
            raise too_large(self._max_body)
        self._overhead += end + 2 - position
        if self._overhead > 3 * MAX_HEAD + 8 * len(self.data):  # a chunk of one byte takes six
            raise Refusal(400, "the chunks of the body have more overhead than data")
        if size:
            self._chunk_left = size
        else:
            self._trailers = True
        return end + 2

    def _read_data(self, buffer: bytearray, position: int, left: int) -> int:
        """Read some of a chunk's data, or the line end behind it; returns where that ends."""
        if left:
            data = buffer[position : position + left]
            self.data += data
            self._chunk_left = left - len(data)
            return position + len(data)
        end = bytes(buffer[position : position + 2])
        if end != b"\r\n"[: len(end)]:
            raise Refusal(400, "malformed request: a chunk is longer than its size")
        if len(end) < 2:
            return position
        self._chunk_left = None
        return position + 2

    def _read_trailers(self, buffer: bytearray) -> bool:
        """Read the trailers behind the last chunk, and drop them: they must not be used as headers."""
        while (end := _line_end(buffer, 0)) >= 0:
            line = bytes(buffer[: end + 2])
            del buffer[: end + 2]
            if line == b"\r\n":
                return True
            if not FIELD.fullmatch(line):
                raise Refusal(400, "malformed request: a trailer that is not NAME: VALUE")
            self._overhead += len(line)
            if self._overhead > 4 * MAX_HEAD + 8 * len(self.data):
                raise Refusal(431, "the trailers are too large")
        return False


def _line_end(buffer: bytearray, position: int) -> int:
    """The end of the line that starts at this position; -1 if the line is not complete."""
    end = buffer.find(b"\r\n", position, position + MAX_CHUNK_LINE)
    if end < 0:
        if FORBIDDEN_BYTES.search(buffer, position, position + MAX_CHUNK_LINE):
            raise Refusal(400, "malformed request: a chunk's size that does not end with CR LF")
        if len(buffer) - position >= MAX_CHUNK_LINE:
            raise Refusal(431, f"a line in the body is longer than {MAX_CHUNK_LINE} bytes")
    return end


def too_large(max_body: int) -> Refusal:
    """The refusal of a body that has more bytes than this."""
    return Refusal(413, f"the body is larger than {max_body} bytes (--max-body)")
