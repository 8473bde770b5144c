"""Reads requests from a connection's bytes, strictly and within limits.

The grammar is that of RFC 9110 and 9112, each rule a regular expression; what they leave to the server is
refused where two readers could understand it differently (bare CR or LF, folded lines, two lengths, a length
with chunks), since a proxy in front may be the other one. It must hold:

- Nothing is read ahead. The next request is looked for when it is asked for, so what a client sends before
  its answers costs no more than its bytes.
- Every byte is looked at a bounded number of times, and what a client can make this keep is bounded:
  ``MAX_HEAD``, ``MAX_HEADERS``, the limit of a body, and its chunks' own bytes.
- What is wrong is found in the first bytes that show it, not when the rest has come or time is over.

Knows no transport and no time: bytes go in, heads and bodies come out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cyclone_sse.errors import Refusal
from cyclone_sse.http.headers import Headers

MAX_HEAD = 16 * 1024  # bytes of request line and headers
MAX_HEADERS = 100
MAX_BODY = 1024 * 1024  # bytes
MAX_CHUNK_LINE = 4 * 1024  # bytes of a chunk's size and its extensions

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
_REQUEST_LINE = re.compile(rb"(%s) ([!-~\x80-\xff]+) HTTP/1\.([0-9])" % _TOKEN)  # RFC 9112 3
_OTHER_HTTP = re.compile(rb"%s [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]" % _TOKEN)
_FIELD = re.compile(rb"(%s):([\t -~\x80-\xff]*)\r\n" % _TOKEN)  # RFC 9112 5
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t -~\x80-\xff]*)?")  # RFC 9112 7.1
_HOST = re.compile(  # RFC 9110 7.2, RFC 3986 3.2.2
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?"
)
# What no request line, header or size of a chunk can hold, while its end is not there yet.
_IMPOSSIBLE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
_SINGLE = (  # a list of them means nothing
    "Host",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Expect",
    "Authorization",
)


@dataclass(slots=True)
class RequestHead:
    """One request's head. minor: of HTTP/1.x. length: of the body in bytes, None: it comes in chunks.

    keep_alive: the client wants the connection to stay open. expects: it waits for "100 Continue".
    """

    method: str
    target: bytes
    minor: int
    headers: Headers
    length: int | None
    keep_alive: bool
    expects: bool

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.length != 0


class RequestReader:
    """The requests of one connection: ``feed``, then ``head`` and ``body`` in turns. max_body: bytes.

    Both raise Refusal, after which nothing more can be read.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunk_left",
        "_head",
        "_max_body",
        "_overhead",
        "_scanned",
        "_trailers",
    )

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._scanned = 0  # bytes of an incomplete head that were looked at
        self._head: RequestHead | None = None  # whose body is due

    @property
    def in_request(self) -> bool:
        """A request has begun and is not complete, or the next has come with it."""
        return self._head is not None or bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._buffer += data

    def head(self) -> RequestHead | None:
        """The head of the next request; None when there is not all of it."""
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112 2.2
            del buffer[:2]
        if not buffer:
            return None
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 or end + 4 > MAX_HEAD:
            self._check_partial_head()
            return None
        self._scanned = 0
        line, _, fields = bytes(buffer[: end + 2]).partition(b"\r\n")
        del buffer[: end + 4]
        method, target, minor = _request_line(line)
        headers = _fields(fields)
        self._head = head = _framed(method, target, minor, headers)
        if head.length is None:
            self._body = bytearray()
            self._chunk_left: int | None = None  # of its data; None: its size is due
            self._trailers = False  # the last chunk is there
            self._overhead = 0  # bytes of chunks that are not data
        elif not head.length:
            self._head = None
        return head

    def body(self) -> bytes | None:
        """The body of the request whose head came last; None when there is not all of it."""
        head = self._head
        assert head is not None
        if head.length is None:
            if not self._read_chunks():
                return None
            body = bytes(self._body)
            del self._body
        elif head.length > self._max_body:
            raise self._too_large()
        elif len(self._buffer) < head.length:
            return None
        else:
            body = bytes(self._buffer[: head.length])
            del self._buffer[: head.length]
        self._head = None
        return body

    @property
    def body_due(self) -> bool:
        """``head`` has given a head whose body ``body`` has not given yet."""
        return self._head is not None

    def wants_continue(self) -> bool:
        """Whether the client holds its body back until it is told to go on (RFC 9110 10.1.1); said once."""
        head = self._head
        wants = head is not None and head.expects and not self._buffer
        if head is not None:
            head.expects = False
        return wants

    def _check_partial_head(self) -> None:
        """Refuse at once what can become no head."""
        buffer, scanned = self._buffer, self._scanned
        line_end = buffer.find(b"\r\n", max(0, scanned - 1), MAX_HEAD)
        if line_end >= 0 and buffer.find(b"\r\n", 0, line_end) < 0:
            _request_line(bytes(buffer[:line_end]))
        if len(buffer) > MAX_HEAD:
            if buffer.find(b"\r\n", 0, MAX_HEAD) < 0:
                raise Refusal(414, f"the request line is longer than {MAX_HEAD} bytes")
            raise Refusal(431, f"the request's head is larger than {MAX_HEAD} bytes")
        if _IMPOSSIBLE.search(buffer, max(0, scanned - 1)):
            raise Refusal(400, "malformed request: a control character, or a line without CR LF")
        self._scanned = len(buffer)

    # Chunks, RFC 9112 7.1.

    def _read_chunks(self) -> bool:
        position = 0
        try:
            while not self._trailers:
                if self._chunk_left is None:
                    after = self._read_size(position)
                else:
                    after = self._read_data(position, self._chunk_left)
                if after == position:
                    return False
                position = after
        finally:
            del self._buffer[:position]
        return self._read_trailers()

    def _read_size(self, position: int) -> int:
        """Read a chunk's size, and say where its data begins: at ``position`` when more must come first."""
        end = self._line_end(position)
        if end < 0:
            return position
        match = _CHUNK.fullmatch(self._buffer, position, end)
        if match is None:
            raise Refusal(400, "malformed request: the size of a chunk")
        size = int(match[1], 16)
        if size > self._max_body - len(self._body):
            raise self._too_large()
        self._overhead += end + 2 - position
        if self._overhead > 3 * MAX_HEAD + 8 * len(self._body):  # a chunk of one byte takes six
            raise Refusal(400, "the chunks of the body hold more else than data")
        if size:
            self._chunk_left = size
        else:
            self._trailers = True
        return end + 2

    def _read_data(self, position: int, left: int) -> int:
        """Read some of a chunk's data, or the line end behind it, and say where that ends."""
        buffer = self._buffer
        if left:
            data = buffer[position : position + left]
            self._body += data
            self._chunk_left = left - len(data)
            return position + len(data)
        end = bytes(buffer[position : position + 2])
        if end != b"\r\n"[: len(end)]:
            raise Refusal(400, "malformed request: a chunk is longer than its size")
        if len(end) < 2:
            return position
        self._chunk_left = None
        return position + 2

    def _read_trailers(self) -> bool:
        """Read what comes behind the last chunk, and leave it: it must not pass for headers."""
        while (end := self._line_end(0)) >= 0:
            line = bytes(self._buffer[: end + 2])
            del self._buffer[: end + 2]
            if line == b"\r\n":
                return True
            if not _FIELD.fullmatch(line):
                raise Refusal(400, "malformed request: a trailer")
            self._overhead += len(line)
            if self._overhead > 4 * MAX_HEAD + 8 * len(self._body):
                raise Refusal(431, "the trailers are too large")
        return False

    def _line_end(self, position: int) -> int:
        """Where the line ends that begins there; -1 when it does not yet."""
        end = self._buffer.find(b"\r\n", position, position + MAX_CHUNK_LINE)
        if end < 0:
            if _IMPOSSIBLE.search(self._buffer, position, position + MAX_CHUNK_LINE):
                raise Refusal(400, "malformed request: a chunk's size that does not end with CR LF")
            if len(self._buffer) - position >= MAX_CHUNK_LINE:
                raise Refusal(431, f"a line in the body is longer than {MAX_CHUNK_LINE} bytes")
        return end

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than {self._max_body} bytes")


def _request_line(line: bytes) -> tuple[str, bytes, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _OTHER_HTTP.fullmatch(line):
            raise Refusal(505, "HTTP/1.0 and HTTP/1.1 are known here")
        raise Refusal(400, "malformed request line: METHOD TARGET HTTP/1.1, with one space between")
    return match[1].decode("ascii"), match[2], int(match[3])


def _fields(data: bytes) -> Headers:
    """The headers of a head. Raises Refusal."""
    found = _FIELD.findall(data)
    # What lies between two matches would be no header: the lengths show it.
    if sum([len(name) + len(value) for name, value in found]) + 3 * len(found) != len(data):
        raise Refusal(400, "malformed request: a header")
    if len(found) > MAX_HEADERS:
        raise Refusal(431, f"more than {MAX_HEADERS} headers")
    return Headers.from_raw(found)


def _framed(method: str, target: bytes, minor: int, headers: Headers) -> RequestHead:
    """Where the request ends (RFC 9112 6), and what becomes of the connection (9). Raises Refusal."""
    if headers.repeated:
        for name in _SINGLE:
            if name in headers.repeated:
                raise Refusal(400, f"more than one {name}")
    host = headers.exact("Host")
    if host is None:
        if minor:
            raise Refusal(400, "Host is missing")
    elif not is_host(host):
        raise Refusal(400, "Host is not the name of a host")
    length = _length(headers, minor)
    connection = headers.exact("Connection")
    keep_alive = minor > 0
    if connection is not None:
        tokens = [token.strip() for token in connection.lower().split(",")]
        keep_alive = "close" not in tokens and (minor > 0 or "keep-alive" in tokens)
    expect = headers.exact("Expect")
    if expect is not None and expect.lower() != "100-continue":
        raise Refusal(417, "no expectation but 100-continue is known here")
    expects = expect is not None and minor > 0 and length != 0
    return RequestHead(method, target, minor, headers, length, keep_alive, expects)


def _length(headers: Headers, minor: int) -> int | None:
    """The length of the body, None: it comes in chunks. Raises Refusal."""
    coding = headers.exact("Transfer-Encoding")
    length = headers.exact("Content-Length")
    if coding is not None:
        codings = [part.strip().lower() for part in coding.split(",")]
        if not minor:
            raise Refusal(400, "HTTP/1.0 knows no Transfer-Encoding")
        if length is not None:
            raise Refusal(400, "both Content-Length and Transfer-Encoding")
        if codings[-1] != "chunked" or codings.count("chunked") > 1:
            raise Refusal(400, "chunked must be the last Transfer-Encoding")
        if len(codings) > 1:
            raise Refusal(501, "no Transfer-Encoding but chunked is known here")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdecimal()):
        raise Refusal(400, "Content-Length is not a number")
    digits = length.lstrip("0")
    return int(digits or "0") if len(digits) < 18 else 10**18  # Python refuses to read thousands of digits


@lru_cache(maxsize=256)
def is_host(text: str) -> bool:
    """Whether this is a host, with or without a port."""
    return _HOST.fullmatch(text) is not None
