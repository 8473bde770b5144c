"""The fields of a query, or of the body of a form.

All fields are text: a request that is not UTF-8 is refused (cyclone itself replaces invalid bytes, and so
changes messages silently). Time and memory are linear in the size of the body, and long bodies are read in
slices. python-multipart reads multipart bodies; a part that contains parts is just bytes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from typing import Any
from urllib.parse import unquote_to_bytes

from cyclone.httputil import HTTPFile
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from cyclone_sse.errors import Refusal
from cyclone_sse.slices import finish

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MAX_FIELDS = 1000  # form fields or query parameters of one request
SLICE = 16 * 1024  # bytes read in one slice: about 2 ms
MAX_PART_HEADERS = 64 * 1024  # bytes of all parts' headers, which are read byte by byte

_PARAMETER = re.compile(
    r';[ \t]*([^ \t;="]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;" \t]*))[ \t]*', re.DOTALL
)

# Without this, python-multipart logs a line for each malformed form.
logging.getLogger("python_multipart").disabled = True
logging.getLogger("python_multipart.multipart").disabled = True

_PERCENT, _PLUS = b"%+"  # as numbers: `in` finds a number in bytes six times as fast as bytes

Fields = dict[str, list[str]]
NO_FIELDS: Fields = {}


def media_type(content_type: str | None) -> str:
    """A Content-Type without its parameters, in lower case (RFC 9110 8.3.1)."""
    return (content_type or "").partition(";")[0].strip(" \t").lower()


def parameters(value: str) -> dict[str, str]:
    """The parameters behind the first word of a header: ``form-data; name="a"``. Raises Refusal."""
    found: dict[str, str] = {}
    position = value.find(";")
    while 0 <= position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            raise Refusal(400, "malformed parameters of a Content-Type or Content-Disposition")
        name, quoted, plain = match.groups()
        found.setdefault(name.lower(), plain if quoted is None else quoted.replace('\\"', '"'))
        position = match.end()
    return found


def url_encoded(data: bytes) -> Fields:
    """The fields of a query, or of a short urlencoded body, empty ones too. Raises Refusal."""
    return finish(read_url_encoded(data)) if _PERCENT in data or _PLUS in data else _plain_fields(data)


def read_url_encoded(data: bytes) -> Generator[None, None, Fields]:
    """The fields of an urlencoded body, in slices. Raises Refusal."""
    if not (_PERCENT in data or _PLUS in data):
        return _plain_fields(data)
    fields: Fields = {}
    decoded = 0  # bytes in this slice
    _check_count(data)
    for pair in filter(None, data.split(b"&")):
        name, _, value = pair.partition(b"=")
        name = yield from _percent_decoded(name)
        value = yield from _percent_decoded(value)
        fields.setdefault(_text(name), []).append(_text(value))
        decoded += len(pair)
        if decoded > SLICE:
            decoded = 0
            yield
    return fields


def _plain_fields(data: bytes) -> Fields:
    """The fields of data in which nothing is encoded."""
    _check_count(data)
    fields: Fields = {}
    for pair in _text(data).split("&"):
        if pair:
            name, _, value = pair.partition("=")
            fields.setdefault(name, []).append(value)
    return fields


def _check_count(data: bytes) -> None:
    """Refuse too many fields before they are separated: a body may consist of a million separators."""
    if data.count(b"&") >= MAX_FIELDS:
        raise Refusal(400, f"more than {MAX_FIELDS} parameters")


def _percent_decoded(data: bytes) -> Generator[None, None, bytes]:
    data = data.replace(b"+", b" ")
    if _PERCENT not in data:
        return data
    decoded = bytearray()
    start = 0
    while start < len(data):
        end = start + SLICE
        if _PERCENT in data[end - 2 : end]:
            end = data.rindex(b"%", end - 2, end)  # never between a percent sign and its digits
        decoded += unquote_to_bytes(data[start:end])
        start = end
        if start < len(data):
            yield
    return bytes(decoded)


def read_multipart(
    content_type: str, body: bytes
) -> Generator[None, None, tuple[Fields, dict[str, list[HTTPFile]]]]:
    """The fields and files of a multipart/form-data body, in slices. Raises Refusal."""
    boundary = parameters(content_type).get("boundary")
    if not boundary:
        raise Refusal(400, "multipart/form-data without a boundary")
    fields: Fields = {}
    files: dict[str, list[HTTPFile]] = {}
    parts = yield from _parts(boundary, body)
    for headers, data in parts:
        given = parameters(_text(headers.get(b"content-disposition", b"")))
        name = given.get("name")
        if name is None:
            continue
        if "filename" in given or "filename*" in given:
            kind = _text(headers.get(b"content-type", b"application/octet-stream"))
            file = HTTPFile(filename=given.get("filename", ""), body=bytes(data), content_type=kind)
            files.setdefault(name, []).append(file)
        else:
            fields.setdefault(name, []).append(_text(data))
    return fields, files


class _Parts:
    """The parts that the parser has found so far; its callbacks receive a buffer and a range in it."""

    def __init__(self) -> None:
        self.found: list[tuple[dict[bytes, bytes], bytearray]] = []
        self.complete = False
        self._name = b""
        self._header_size = 0

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._start_part,
            "on_header_field": self._field,
            "on_header_value": self._value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _start_part(self) -> None:
        if len(self.found) == MAX_FIELDS:
            raise Refusal(400, f"more than {MAX_FIELDS} parts")
        self.found.append(({}, bytearray()))

    def _count(self, start: int, end: int) -> None:
        self._header_size += end - start
        if self._header_size > MAX_PART_HEADERS:
            raise Refusal(400, "the headers of the parts are too large")

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._count(start, end)
        self._name += data[start:end].lower()

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._count(start, end)
        headers = self.found[-1][0]
        headers[self._name] = headers.get(self._name, b"") + data[start:end]

    def _header_end(self) -> None:
        self._name = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.found[-1][1].extend(data[start:end])

    def _end(self) -> None:
        self.complete = True


def _parts(boundary: str, body: bytes) -> Generator[None, None, list[tuple[dict[bytes, bytes], bytearray]]]:
    parts = _Parts()
    if body.count(b"--" + boundary.encode("latin-1")) > MAX_FIELDS + 1:  # parts are read byte by byte
        raise Refusal(400, f"more than {MAX_FIELDS} parts")
    try:
        parser = MultipartParser(boundary.encode("latin-1"), parts.callbacks())  # type: ignore[arg-type]
        for start in range(0, len(body), SLICE):
            parser.write(body[start : start + SLICE])
            if start + SLICE < len(body):
                yield
    except FormParserError:
        parts.complete = False
    if not parts.complete:
        raise Refusal(400, "malformed multipart/form-data")
    return parts.found


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "the parameters are not UTF-8") from None
