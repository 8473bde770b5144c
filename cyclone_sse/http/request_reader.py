"""Reads requests from a connection's bytes, strictly and within limits.

The grammar is that of RFC 9110 and 9112, with a regular expression for each rule. Where these allow the
server to choose, requests that a proxy could read differently are refused (bare CR or LF, folded lines, two
lengths, a length with chunks). Invariants:

- Nothing is parsed ahead. The next request is parsed when the connection needs it, so pipelined requests cost
  no more than the memory of their bytes.
- Each byte is scanned a limited number of times, and the memory is limited by ``MAX_HEAD``, ``MAX_HEADERS``,
  the limit of a body, and the overhead of its chunks.
- A bounded number of short heads and header sections that have come twice are remembered, and not parsed
  again: a publisher sends the same head with each request, and clients that reconnect together send the same
  headers as each other, often with the same request line. What may be one client's alone is not remembered:
  its address, its token, its key.
- A mistake in a head is found in the first bytes that show it, before the rest has arrived.
- A call does a limited amount of work, whatever has arrived.

Knows no transport and no time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cyclone_sse.errors import Refusal
from cyclone_sse.http.chunks import ChunkedBody, too_large
from cyclone_sse.http.forms import Fields, media_type
from cyclone_sse.http.headers import FIELD, FORBIDDEN_BYTES, MAX_HEAD, TOKEN, Headers, body_length
from cyclone_sse.http.target import is_host, split_target

MAX_HEADERS = 100
_SHORT = 1024  # bytes of a request line, or of headers; longer ones are not remembered
_MAX_KNOWN = 256  # heads, and sections, that are remembered
_MAX_SEEN = 1000  # hashes in `_seen`; then it is emptied

_REQUEST_LINE = re.compile(rb"(%s) ([!-~\x80-\xff]+) HTTP/1\.([0-9])" % TOKEN)  # RFC 9112 3
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")  # RFC 9112 2.2
_OTHER_HTTP = re.compile(rb"%s [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]" % TOKEN)
_SINGLE = (  # a list of them means nothing
    "Host",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Expect",
    "Authorization",
    "Idempotency-Key",
)
# Headers that differ from client to client, or are secret: what has one of them is not remembered.
_OF_ONE_CLIENT = frozenset(
    (
        "Authorization",
        "Cookie",
        "Forwarded",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "X-Real-Ip",
    )
)
# Nor is a head with another path or another parameter than these: those of an application may be secret.
_COMMON_PATHS = ("/", "/publish")
_COMMON_QUERY = re.compile(r"(?:(?:channels?|fields|presence|state|stream)=[^&]*(?:&|\Z))*")


class RequestHead(NamedTuple):
    """The head of a request; several may share it, so that none may change its parameters and headers.

    host, path, query: from the target. parameters: the fields of the query; the first request fills them in.
    minor: of HTTP/1.x. length: of the body in bytes, None for chunks. keep_alive: whether the connection
    stays open. expects: whether the client waits for "100 Continue". media_type: the Content-Type without
    its parameters; empty if there is none.
    """

    method: str
    host: str
    path: str
    query: str
    parameters: Fields
    minor: int
    headers: Headers
    length: int | None
    keep_alive: bool
    expects: bool
    media_type: str


class _HeaderSection(NamedTuple):
    """The headers of a request, and what they mean for its connection (RFC 9110 6.3).

    is_common: whether other clients may send the same, so that they may be remembered.
    """

    headers: Headers
    host: str | None
    length: int | None
    keep_alive: bool
    expects: bool
    media_type: str
    is_common: bool


_known_heads: dict[bytes, RequestHead] = {}  # by their bytes, without the empty line
_known_sections: dict[tuple[bytes, int], _HeaderSection] = {}  # by their bytes, and the version
_seen: set[int] = set()  # hashes of heads and sections that have come once


class RequestReader:
    """The requests of one connection: add bytes to ``buffer``, then read each request with ``pop_request``.

    buffer: the bytes that were not read yet. max_body: bytes. head: of the request that is being read, or was
    read last. is_over: whether a body was left unread, so that no further request can be read.
    """

    __slots__ = (
        "_body_due",
        "_chunks",
        "_expects",
        "_max_body",
        "_scanned",
        "buffer",
        "head",
        "is_over",
    )

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self.buffer = bytearray()
        self._scanned = 0  # bytes of an incomplete head that were looked at
        self._chunks: ChunkedBody | None = None  # the body that is being read, if it comes in chunks
        self._body_due = False  # the head is there, its body is not
        self._expects = False  # the client waits with its body for 100 Continue
        self.head: RequestHead | None = None
        self.is_over = False

    @property
    def in_request(self) -> bool:
        """Whether a request has started and is not complete, or the next one has arrived with it."""
        return self._body_due or bool(self.buffer)

    @property
    def body_size(self) -> int:
        """The maximum size of the body that is being read; 0 if there is none."""
        if not self._body_due or self.head is None:
            return 0
        return self._max_body if self.head.length is None else self.head.length

    @property
    def stopped_early(self) -> bool:
        """Whether the last call has stopped at its limit of work, and left bytes for the next one."""
        return self._chunks is not None and self._chunks.stopped_early

    def pop_request(self, wants_body: Callable[[RequestHead], bool]) -> tuple[RequestHead, bytes] | None:
        """The next request: its head and body; None if it is not complete.

        wants_body: called for a request with a body, which is left unread if the result is false. Raises
        Refusal, after which nothing more can be read.
        """
        if not self._body_due:
            head = self._read_head()
            if head is None:
                return None
            if head.length == 0:
                return head, b""
            if not wants_body(head):
                self.is_over = True
                return head, b""
            self._body_due = True
            self._expects = head.expects
            self._chunks = ChunkedBody(self._max_body) if head.length is None else None
        head = self.head
        assert head is not None
        length = head.length
        if length is None:
            return self._pop_chunked(head)
        if length > self._max_body:
            raise too_large(self._max_body)
        if len(self.buffer) < length:
            return None
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        self._body_due = False
        return head, body

    def pop_continue(self) -> bool:
        """Whether the client waits with its body for 100 Continue (RFC 9110 10.1.1); true once."""
        waits, self._expects = self._expects and self._body_due and not self.buffer, False
        return waits

    def _read_head(self) -> RequestHead | None:
        buffer = self.buffer
        if buffer.startswith(b"\r\n") and (empty := _EMPTY_LINES.match(buffer)):
            del buffer[: empty.end()]
        self.head = None
        if not buffer:
            return None
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 or end + 4 > MAX_HEAD:
            self._check_partial_head()
            return None
        self._scanned = 0
        data = bytes(buffer[: end + 2])
        del buffer[: end + 4]
        self.head = head = _known_heads.get(data) or _head(data)
        return head

    def _pop_chunked(self, head: RequestHead) -> tuple[RequestHead, bytes] | None:
        assert self._chunks is not None
        if not self._chunks.read(self.buffer):
            return None
        chunked, self._chunks = self._chunks, None
        self._body_due = False
        return head, bytes(chunked.data)

    def _check_partial_head(self) -> None:
        """Refuse at once bytes that cannot become a valid head."""
        buffer, scanned = self.buffer, self._scanned
        line_end = buffer.find(b"\r\n", max(0, scanned - 1), MAX_HEAD)
        if line_end >= 0 and buffer.find(b"\r\n", 0, line_end) < 0:
            _request_line(bytes(buffer[:line_end]))
        if len(buffer) > MAX_HEAD:
            if buffer.find(b"\r\n", 0, MAX_HEAD) < 0:
                raise Refusal(414, f"the request line is longer than {MAX_HEAD} bytes")
            raise Refusal(431, f"the request's head is larger than {MAX_HEAD} bytes")
        if FORBIDDEN_BYTES.search(buffer, max(0, scanned - 1)):
            raise Refusal(400, "malformed request: a control character, or a line without CR LF")
        self._scanned = len(buffer)


def _request_line(line: bytes) -> tuple[str, bytes, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _OTHER_HTTP.fullmatch(line):
            raise Refusal(505, "only HTTP/1.0 and HTTP/1.1 are supported")
        raise Refusal(400, "malformed request line: METHOD TARGET HTTP/1.1, with one space between")
    return match[1].decode("ascii"), match[2], int(match[3])


def _head(data: bytes) -> RequestHead:
    """The head from its request line and the lines of its headers. Raises Refusal."""
    line, _, fields = data.partition(b"\r\n")
    method, target, minor = _request_line(line)
    section = _known_sections.get((fields, minor))
    if section is None:
        section = _header_section(fields, minor)
        if section.is_common and _note_seen(fields):
            _remember(_known_sections, (fields, minor), section)
    host, path, query = split_target(method, target, section.host)
    head = RequestHead(
        method,
        host,
        path,
        query,
        {},
        minor,
        section.headers,
        section.length,
        section.keep_alive,
        section.expects,
        section.media_type,
    )
    if section.is_common and _note_seen(data) and _is_common_line(line, path, query):
        _remember(_known_heads, data, head)
    return head


def _is_common_line(line: bytes, path: str, query: str) -> bool:
    """Whether other clients may send this request line too."""
    return path in _COMMON_PATHS and len(line) <= _SHORT and _COMMON_QUERY.fullmatch(query) is not None


def _note_seen(data: bytes) -> bool:
    """Note that these bytes have come; returns whether they had come before, lately.

    Without this, bytes that never come again would displace those that do.
    """
    mark = hash(data)
    if mark in _seen:
        return True
    if len(_seen) >= _MAX_SEEN:
        _seen.clear()
    _seen.add(mark)
    return False


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if len(known) >= _MAX_KNOWN:
        del known[next(iter(known))]
    known[key] = value


def _header_section(data: bytes, minor: int) -> _HeaderSection:
    """Read and check the lines of all headers. minor: of HTTP/1.x. Raises Refusal."""
    headers = _headers(data)
    if headers.repeated:
        for name in _SINGLE:
            if name in headers.repeated:
                raise Refusal(400, f"more than one {name}")
    length = body_length(headers, minor)
    host = headers.exact("Host")
    if host is None:
        if minor:
            raise Refusal(400, "Host is missing")
    elif not is_host(host):
        raise Refusal(400, "Host is not a valid host name")
    connection = headers.exact("Connection")
    keep_alive = minor > 0  # RFC 9112 9.3
    if connection is not None:
        tokens = [token.strip(" \t") for token in connection.lower().split(",")]
        keep_alive = "close" not in tokens and (minor > 0 or "keep-alive" in tokens)
    expect = headers.exact("Expect")
    if expect is not None and expect.lower() != "100-continue":
        raise Refusal(417, "the only supported expectation is 100-continue")
    expects = expect is not None and minor > 0 and length != 0
    is_common = len(data) <= _SHORT and _OF_ONE_CLIENT.isdisjoint(headers)
    kind = media_type(headers.exact("Content-Type"))
    return _HeaderSection(headers, host, length, keep_alive, expects, kind, is_common)


def _headers(data: bytes) -> Headers:
    found = FIELD.findall(data)
    # What lies between two matches would be no header: the lengths show it.
    if sum([len(name) + len(value) for name, value in found]) + 3 * len(found) != len(data):
        raise Refusal(400, "malformed request: a header that is not NAME: VALUE")
    if len(found) > MAX_HEADERS:
        raise Refusal(431, f"more than {MAX_HEADERS} headers")
    return Headers.from_raw(found)
