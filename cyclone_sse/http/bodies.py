"""The body of a POST, whatever it is written in: a form, JSON, or a JSON text in each line.

Knows media types, and of the fields only the one that authorises: the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclone_sse.errors import Refusal
from cyclone_sse.http.forms import MULTIPART, URLENCODED, media_type
from cyclone_sse.values import read_json

JSON = "application/json"
LINES = "application/x-ndjson"

_KNOWN = {"Accept": ", ".join((URLENCODED, MULTIPART, JSON, LINES))}  # RFC 9110 15.5.16


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a POST, read but not yet understood.

    form: its fields by name, and those of the query behind them; None where it is JSON. values: the JSON
    values. is_batch: they came as an array or in lines. key: the key in the body (in a batch: in each of its
    objects, the same), or empty.
    """

    form: Mapping[str, list[str]] | None
    values: Sequence[Any] = ()
    is_batch: bool = False
    key: str = ""


def read_body(request: Any) -> Body:
    """Read the body of a request. Raises Refusal: 400, and 415 where it is written in another way."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(415, "no content coding is known here", {"Accept-Encoding": "identity"})
    kind = media_type(request.headers.get("Content-Type"))
    if not request.body or kind in (URLENCODED, MULTIPART):
        # The key counts in the body alone: a query is written to logs on its way.
        key = request.form.get("key", [""])[-1]
        return Body({**request.form, **request.arguments}, key=key)
    if kind == JSON:
        value = _json(request.body, "")
        is_batch = isinstance(value, list)
        values = value if is_batch else [value]
    elif kind == LINES:
        is_batch = True
        lines = [line for line in request.body.split(b"\n") if line.strip(b" \t\r")]
        values = [_json(line, f"index {index}: ") for index, line in enumerate(lines)]
    else:
        raise Refusal(415, f"this Content-Type is not known here: send a form, {JSON} or {LINES}", _KNOWN)
    return Body(None, values, is_batch, _key(values))


def _json(text: bytes, where: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise Refusal(400, f"{where}{error}") from None


def _key(values: Sequence[Any]) -> str:
    """The key that all objects hold; empty if they do not agree."""
    keys = [value.get("key", "") if isinstance(value, dict) else "" for value in values]
    first = keys[0] if keys else ""
    return first if isinstance(first, str) and all(key == first for key in keys) else ""
