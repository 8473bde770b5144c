"""Reads requests from a connection's bytes, strictly and within limits.

httptools (llhttp) does the parsing, after RFC 9112; what is added here are the limits, and what
to answer to a request that is refused. Knows no transport and no time: bytes go in, requests
come out. One reader serves a connection until that becomes a stream, and is then dropped whole:
ten thousand idle subscribers need none of it.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from cyclone_sse.errors import Refusal
from cyclone_sse.http.requests import Headers, Parsed

MAX_HEAD = 16 * 1024  # bytes of request line and headers
MAX_HEADERS = 100
MAX_BODY = 1024 * 1024  # bytes

_HEAD_REST = len("GET  HTTP/1.1\r\n\r\n")  # what is part of a head besides target and headers
_UNKNOWN_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/\S*) HTTP/1\.[01]\r\n")


class RequestReader:
    """The requests of one connection. max_body: bytes."""

    __slots__ = (
        "_body",
        "_body_size",
        "_completed",
        "_head_size",
        "_header_count",
        "_headers",
        "_in_head",
        "_max_body",
        "_parser",
        "_raw_size",
        "_target",
        "in_request",
        "wants_continue",
    )

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._parser: Any = httptools.HttpRequestParser(self)
        self._completed: list[Parsed | Refusal] = []
        self._in_head = False
        self.in_request = False  # a request has begun and is not complete
        self.wants_continue = False  # its client waits for "100 Continue" before the body

    @property
    def ended(self) -> bool:
        """Nothing more can be read: what came last was refused, or asked for another protocol."""
        return self._parser is None

    def close(self) -> None:
        """Read nothing more, and let go of the parser: it knows this reader, and a circle would
        stay in memory until the garbage collector next looks at everything."""
        self._parser = None

    def feed(self, data: bytes) -> list[Parsed | Refusal]:
        """The requests that are complete with these bytes; a Refusal can only be the last."""
        self._completed = []
        self.wants_continue = False
        try:
            self._parser.feed_data(data)
            self._guard_size(len(data))
        except httptools.HttpParserUpgrade:
            # Not granted: the request is answered as it is, and is the connection's last.
            self._end()
        except httptools.HttpParserError as error:
            self._completed.append(self._explain(error, data))
            self._end()
        except Refusal as refusal:
            self._completed.append(refusal)
            self._end()
        return self._completed

    def _end(self) -> None:
        self._parser = None
        self.in_request = self.wants_continue = False
        last = self._completed[-1]
        if isinstance(last, Parsed):
            last.keep_alive = False

    # httptools calls these.

    def on_message_begin(self) -> None:
        """The first byte of a request line is there."""
        self._in_head = self.in_request = True
        self._target = b""
        self._headers = Headers()
        self._head_size = _HEAD_REST
        self._raw_size = self._header_count = self._body_size = 0
        self._body: list[bytes] = []

    def on_url(self, part: bytes) -> None:
        """The target of the request, maybe in several parts."""
        self._target += part
        self._head_size += len(part)
        if self._head_size > MAX_HEAD:
            raise _head_too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body, which is counted and left out."""
        self._header_count += 1
        self._head_size += len(name) + len(value) + 4  # ": " and the line's end
        if self._header_count > MAX_HEADERS:
            raise Refusal(431, f"more than {MAX_HEADERS} headers")
        if self._head_size > MAX_HEAD:
            raise _head_too_large()
        if not self._in_head:
            return
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Refusal(501, "no transfer coding but chunked is known here")
        self._headers.add_raw(name, value)

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body is there."""
        self._in_head = False
        headers = self._headers
        version = self._parser.get_http_version()
        if version == "0.9":  # what llhttp makes of a line without one
            raise Refusal(400, "malformed request: no HTTP version")
        if version not in ("1.0", "1.1"):
            raise Refusal(505, "HTTP/1.0 and HTTP/1.1 are known here")
        if "Host" in headers and len(headers.get_list("Host")) > 1:
            raise Refusal(400, "more than one Host")
        length = headers.get("Content-Length")
        if length is not None and int(length) > self._max_body:
            raise Refusal(413, f"the body is larger than {self._max_body} bytes")
        has_body = length not in (None, "0") or "Transfer-Encoding" in headers
        if has_body and self._parser.should_upgrade():
            raise Refusal(400, "a request with a body cannot ask for an upgrade")
        self.wants_continue = headers.get("Expect", "").lower() == "100-continue"

    def on_body(self, part: bytes) -> None:
        """A piece of the body, already freed of its chunks."""
        self.wants_continue = False
        self._body_size += len(part)
        if self._body_size > self._max_body:
            raise Refusal(413, f"the body is larger than {self._max_body} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        """A whole request is there."""
        self.in_request = self.wants_continue = False
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        # HTTP/1.0 is kept alive only where cyclone will say so in the response.
        keep_alive = parser.should_keep_alive() and (
            version == "1.1" or headers.get("Connection") == "Keep-Alive"
        )
        self._completed.append(
            Parsed(
                parser.get_method().decode(),
                self._target,
                f"HTTP/{version}",
                headers,
                b"".join(self._body),
                keep_alive,
            )
        )

    def _guard_size(self, size: int) -> None:
        """Bound what no callback tells of: a header that does not end, extensions of chunks,
        trailers. Exact unless other requests came with it."""
        if self.in_request and not self._completed:
            self._raw_size += size
            # Behind the head, a chunk of one byte takes six.
            if self._raw_size > (MAX_HEAD if self._in_head else 3 * MAX_HEAD + 8 * self._body_size):
                raise _head_too_large()

    def _explain(self, error: httptools.HttpParserError, data: bytes) -> Parsed | Refusal:
        """What to make of a request on which the parser gave up."""
        if isinstance(error.__context__, Refusal):
            return error.__context__
        unknown = _UNKNOWN_METHOD.match(data)
        if isinstance(error, httptools.HttpParserInvalidMethodError) and unknown and not self._completed:
            # A sound request line: let the handler say which methods it allows.
            return Parsed(unknown[1].decode(), unknown[2], "HTTP/1.1", Headers(), b"", keep_alive=False)
        return Refusal(400, f"malformed request: {error}")


def _head_too_large() -> Refusal:
    return Refusal(431, f"the request's head is larger than {MAX_HEAD} bytes")
