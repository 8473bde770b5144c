"""The body of a POST, in any of its formats: a form, JSON, or one JSON text on each line.

Knows media types, and only one field, the key. Long bodies are read in slices; the long body of an
unauthorised publisher is read only if it may contain the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from json import JSONDecodeError
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from cyclone_sse.errors import Refusal
from cyclone_sse.http.forms import MULTIPART, SLICE, URLENCODED, url_encoded
from cyclone_sse.http.requests import Request
from cyclone_sse.strict_json import (
    JSON_DECODER,
    MAX_NESTING,
    TOO_DEEP,
    is_deep,
    may_be_deep,
    not_json,
    read_json,
)

JSON = "application/json"
LINES = "application/x-ndjson"
SHORT = 64 * 1024  # bytes of a body that is read whole to look for the key

_KNOWN = {"Accept": ", ".join((URLENCODED, MULTIPART, JSON, LINES))}  # RFC 9110 15.5.16
_VALUES_AT_ONCE = 500  # read in one slice
_WHOLE_ARRAY = 128 * 1024  # characters of the longest that is decoded in one call, in 7 ms at most
_BLANKS = re.compile(r"[ \t\r\n]*")  # RFC 8259 2
_AFTER_VALUE = re.compile(r"[ \t\r\n]*([],])[ \t\r\n]*")  # in an array, RFC 8259 5
_MAX_KEY = 1024  # bytes of a key in a body that is not short, as it is written there
_MAX_CANDIDATES = 1000  # values that are compared with the key
# Each begins with letters that a search finds quickly, and looks at a bounded number of bytes from there.
_FORM_KEY = re.compile(rb"&key=([^&]{0,%d})(?=&|\Z)" % _MAX_KEY)
_JSON_KEY = re.compile(rb'"key"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.){0,%d}")' % _MAX_KEY)
_PART_KEY = re.compile(
    rb'name="?key"?\r\n(?:Content-[^\r\n]{1,80}\r\n){0,2}\r\n([^\r\n]{0,%d})\r\n--' % _MAX_KEY
)


class Body(NamedTuple):
    """The decoded body of a POST, whose fields are not yet checked.

    form: its fields by name, followed by those of the query; None for JSON. values: the JSON values.
    is_batch: whether these came as an array or as lines. key: the key in the body (in a batch, the same key
    in each of its objects), or empty.
    """

    form: Mapping[str, list[str]] | None
    values: Sequence[Any] = ()
    is_batch: bool = False
    key: str = ""


def read_body(request: Request, max_batch: int) -> Generator[None, None, Body]:
    """Read the body of a request, in slices. max_batch: values of a batch.

    Raises Refusal: 400, 413 for a larger batch, 415 for another format.
    """
    coding, kind = request.headers.exact("Content-Encoding"), request.media_type
    if coding is not None and coding.lower() != "identity":
        raise Refusal(415, "Content-Encoding is not supported", {"Accept-Encoding": "identity"})
    if not request.body or kind in (URLENCODED, MULTIPART):
        # The key counts in the body alone: a query is written to logs on its way.
        if kind == URLENCODED and len(request.body) <= SLICE:
            request.form = url_encoded(request.body)  # as most publications are
        elif request.body:
            yield from request.read_form()
        form = request.form
        fields = {**form, **request.arguments} if request.parameters else form
        key = form["key"][-1] if "key" in form else ""
        # By position: keywords take twice as long, and most bodies are forms.
        return Body(fields, (), False, key)
    if kind == LINES:
        values = yield from _read_lines(request.body, max_batch)
        return Body(None, values, True, _key(values))
    if kind != JSON:
        raise Refusal(415, f"unsupported Content-Type: send a form, {JSON} or {LINES}", _KNOWN)
    text = _json_text(request.body)
    start = _skip_blanks(text, 0)
    is_batch = text[start : start + 1] == "["
    if is_batch:
        if len(text) > SLICE:
            yield  # without this, several such arrays could be decoded in one turn
        values = _whole_array(text, max_batch) or (yield from _read_array(text, start, max_batch))
    else:
        values = [_json(request.body, "")]
    if len(request.body) > SHORT:
        yield  # without this, the checks of the values would be part of the same turn
    return Body(None, values, is_batch, _key(values))


def may_hold_key(request: Request, is_key: Callable[[bytes], bool]) -> bool:
    """Whether the body may contain the key: it must still be read, and the key compared. Cheap.

    A key in an unusual form, such as one with its name percent-encoded, is found only in a short body.
    """
    body = request.body
    if len(body) <= SHORT:
        return bool(body)
    return any(map(is_key, islice(_candidates(request.media_type, body), _MAX_CANDIDATES)))


def _candidates(kind: str, body: bytes) -> Iterator[bytes]:
    if kind == URLENCODED:
        for match in _FORM_KEY.finditer(b"&" + body):
            yield unquote_to_bytes(match[1].replace(b"+", b" "))
    elif kind == MULTIPART:
        for match in _PART_KEY.finditer(body):
            yield match[1]
    else:
        for match in _JSON_KEY.finditer(body):
            try:
                yield str(read_json(match[1])).encode(errors="replace")
            except ValueError:
                continue


def _json_text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(400, "JSON is not UTF-8") from None


def _json(text: bytes, where: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise Refusal(400, f"{where}{error}") from None


def _skip_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    assert match is not None
    return match.end()


def _whole_array(text: str, max_batch: int) -> list[Any] | None:
    """The values of an array that is not long, in a third of the time of `_read_array`.

    None if it is too long, or has a mistake or too many values: `_read_array` finds what to refuse.
    """
    if len(text) > _WHOLE_ARRAY:
        return None
    try:
        values: list[Any] = JSON_DECODER.decode(text)
    except (RecursionError, ValueError):
        return None
    objects = sum([type(value) is dict for value in values])
    # The array itself does not count as a level.
    if may_be_deep(text, 0, len(text), objects) and is_deep(values, MAX_NESTING + 1):
        return None
    return values if len(values) <= max_batch else None


def _read_array(text: str, start: int, max_batch: int) -> Generator[None, None, list[Any]]:
    """The values of the array that begins there, one by one, so that no value after the limit is read."""
    values: list[Any] = []
    position = _skip_blanks(text, start + 1)
    is_over = text[position : position + 1] == "]"
    if is_over:
        position = _skip_blanks(text, position + 1)
    try:
        while not is_over:
            if len(values) == max_batch:
                raise _too_many(max_batch)
            value, end = JSON_DECODER.raw_decode(text, position)
            if may_be_deep(text, position, end) and is_deep(value):
                raise RecursionError
            position = end
            values.append(value)
            after = _AFTER_VALUE.match(text, position)
            if after is None:
                raise JSONDecodeError("Expecting ',' delimiter", text, position)
            position, is_over = after.end(), after[1] == "]"
            if not len(values) % _VALUES_AT_ONCE:
                yield
        if position != len(text):
            raise JSONDecodeError("Extra data", text, position)
    except RecursionError:
        raise Refusal(400, TOO_DEEP) from None
    except ValueError as error:
        raise Refusal(400, not_json(error)) from None
    return values


def _read_lines(body: bytes, max_batch: int) -> Generator[None, None, list[Any]]:
    if body.count(b"\n") > max_batch:
        raise _too_many(max_batch)
    values: list[Any] = []
    for line in body.split(b"\n"):
        if line.strip(b" \t\r"):
            values.append(_json(line, f"index {len(values)}: "))
            if not len(values) % _VALUES_AT_ONCE:
                yield
    if len(values) > max_batch:
        raise _too_many(max_batch)
    return values


def _too_many(max_batch: int) -> Refusal:
    return Refusal(413, f"more than {max_batch} events in one request (--max-batch)")


def _key(values: Sequence[Any]) -> str:
    """The key that all objects hold; empty if they do not agree."""
    keys = [value.get("key", "") if isinstance(value, dict) else "" for value in values]
    first = keys[0] if keys else ""
    return first if isinstance(first, str) and all(key == first for key in keys) else ""
