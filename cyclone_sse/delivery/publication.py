"""A publication, checked: the same value from a form, from JSON and from a Redis stream.

All mistakes in a publication are found here, before an event has an id, and raised as a ValueError whose text
can be sent to the publisher (400) or logged. May cost microseconds for each event, nothing for each client.
Plain Python: no reactor, no HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cyclone_sse.patterns import check_names
from cyclone_sse.strict_json import compact_json, is_utf8

MAX_TYPE = 100  # characters of an event's type
MAX_RETRY = 3_600_000  # milliseconds: an hour
MAX_TTL = 10 * 365 * 86400.0  # seconds
MAX_CLIENT_ID = 64  # characters
OWN_TYPES = "sse-"  # the beginning of the types that the server itself sends

CHANNEL_FIELDS = ("channel", "channels")
_MOST_FIELDS = frozenset((*CHANNEL_FIELDS, "message", "key"))  # what most publications have
FIELDS = _MOST_FIELDS | {"event", "retry", "ttl", "except", "keep", "idempotency_key"}  # of a JSON object
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
# Visible ASCII characters; with the place in a batch behind them, where one key is for all of it.
_WRONG_KEY = "idempotency_key is not 1 to 200 visible ASCII characters"
_KEY = re.compile(r"[!-~]{1,200}(?: \d{1,9})?", re.ASCII)
_PHP_CHANNEL = re.compile(r"channels?\[\d*\]", re.ASCII)  # PHP's http_build_query and its forms


@dataclass(slots=True)  # not frozen: that would double the time to make one
class Publication:
    """One message for some channels.

    channels: at least one name, each once. data: the message in UTF-8. type: of the event, ``message`` if
    None. retry: milliseconds until clients reconnect. ttl: seconds for which the history keeps it, if fewer
    than for other events; 0: only connected clients receive it. excluded: the id of a client that does not
    receive it. keep: whether it becomes the state of its channels. idempotency_key: publications with the
    same key are published once. Raises ValueError for a value that is not allowed: a type with a line break,
    for example, would add other fields to the event.
    """

    channels: tuple[str, ...]
    data: bytes
    type: str | None = None
    retry: int | None = None
    ttl: float | None = None
    excluded: str | None = None
    keep: bool = False
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channel is missing or empty")
        check_names(self.channels)
        if self.type is not None:
            _check_type(self.type)
        if self.retry is not None and not 0 <= self.retry <= MAX_RETRY:
            raise ValueError(f"retry is not between 0 and {MAX_RETRY} milliseconds")
        if self.ttl is not None and not 0 <= self.ttl <= MAX_TTL:
            raise ValueError(f"ttl is not between 0 and {MAX_TTL:.0f} seconds")
        if self.excluded is not None:
            check_client_id(self.excluded, "except")
        if self.idempotency_key is not None and not _KEY.fullmatch(self.idempotency_key):
            raise ValueError(_WRONG_KEY)

    @property
    def text(self) -> str:
        """The message as text."""
        return self.data.decode()

    @classmethod
    def from_form(cls, arguments: Mapping[str, list[str]]) -> Publication:
        """Read the fields of a form. It may hold others; of a repeated one the last counts.

        Raises ValueError.
        """
        options = {} if _MOST_FIELDS.issuperset(arguments) else _form_options(arguments)
        messages = arguments.get("message")
        return publication(channel_names(arguments), messages[-1] if messages else "", **options)

    @classmethod
    def from_json(cls, value: object) -> Publication:
        """Read a JSON object. ``message`` may be any value; ``key`` is left to the caller.

        Raises ValueError.
        """
        if not isinstance(value, dict):
            raise ValueError("this is not a JSON object")
        options = {} if _MOST_FIELDS.issuperset(value) else _json_options(value)
        message = value.get("message", "")
        if not isinstance(message, str):
            message = _compact(message)
        return publication(_json_channels(value), message, **options)

    @classmethod
    def from_entry(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Publication:
        """Read an entry of a Redis stream, which any program may write. Unknown fields are left alone.

        Raises ValueError.
        """
        channels: list[str] = []
        message, event, retry = b"", None, None
        ttl, excluded, keep = None, None, False
        for name, content in pairs:
            try:
                if name in (b"channel", b"channels"):
                    channels.append(content.decode())
                elif name == b"message":
                    message = content
                elif name == b"event":
                    event = content.decode()
                elif name == b"retry":
                    retry = _read_retry(content.decode())
                elif name == b"ttl":
                    ttl = _read_ttl(content.decode())
                elif name == b"except":
                    excluded = content.decode()
                elif name == b"keep":
                    keep = _read_keep(content.decode())
            except UnicodeDecodeError:
                raise ValueError(f"{name.decode()} is not UTF-8") from None
        return publication(channels, message, event, retry, ttl=ttl, excluded=excluded, keep=keep)


def publication(
    channels: str | Iterable[str],
    message: str | bytes,
    type: str | None = None,
    retry: int | None = None,
    *,
    ttl: float | None = None,
    excluded: str | None = None,
    keep: bool = False,
    idempotency_key: str | None = None,
) -> Publication:
    """Check a message and make a Publication of it. A text as ``channels`` is one name, not its letters.

    Raises ValueError.
    """
    names = (channels,) if isinstance(channels, str) else channels
    found = dict.fromkeys(names)
    found.pop("", None)
    if not (found and message):
        raise ValueError(f"{'message' if found else 'channel'} is missing or empty")
    try:
        if isinstance(message, str):
            data = message.encode()
        else:
            data = message
            data.decode()
    except UnicodeError:
        raise ValueError("message is not UTF-8") from None
    return Publication(tuple(found), data, type, retry, ttl, excluded, keep, idempotency_key)


def check_is_form(arguments: Mapping[str, list[str]]) -> None:
    """Raise ValueError for JSON that was sent as a form, as curl does by itself."""
    if next(iter(arguments), "").lstrip().startswith(("{", "[")):
        raise ValueError("this is JSON: send it with Content-Type: application/json")


def check_client_id(text: str, field: str) -> None:
    """Raise ValueError for a text that cannot be the id of a client. field: its name in the error."""
    if not 1 <= len(text) <= MAX_CLIENT_ID or not is_utf8(text):
        raise ValueError(f"{field} is not 1 to {MAX_CLIENT_ID} characters long")


def _read_ttl(text: str) -> float:
    if not _SECONDS.fullmatch(text):
        raise ValueError("ttl is not a number of seconds")
    return float(text)


def _read_key(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or " " in value):
        raise ValueError(_WRONG_KEY)
    return value


def _read_keep(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("keep is not 0 or 1")
    return text == "1"


def _read_retry(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"retry is not between 0 and {MAX_RETRY} milliseconds")
    return int(text)


def channel_names(arguments: Mapping[str, list[str]]) -> list[str]:
    """The channels that a form or query names: ``channel`` and ``channels``, and what PHP makes of arrays."""
    names: list[str] = []
    for field, values in arguments.items():
        if field.startswith("channel") and (field in CHANNEL_FIELDS or _PHP_CHANNEL.fullmatch(field)):
            names += filter(None, values)
    return names


def _form_options(arguments: Mapping[str, list[str]]) -> dict[str, Any]:
    """The arguments of `publication` for the fields beside the channels and the message."""
    check_is_form(arguments)
    last = {name: values[-1] for name, values in arguments.items() if values}
    return {
        "type": last.get("event"),
        "retry": _read_retry(last["retry"]) if "retry" in last else None,
        "ttl": _read_ttl(last["ttl"]) if "ttl" in last else None,
        "excluded": last.get("except"),
        "keep": "keep" in last and _read_keep(last["keep"]),
        "idempotency_key": _read_key(last.get("idempotency_key")),
    }


def _json_options(value: dict[str, Any]) -> dict[str, Any]:
    """The same for a JSON object, which has only known fields."""
    if not FIELDS.issuperset(value):
        raise ValueError(f"unknown field {min(value.keys() - FIELDS)!r}")
    event, retry, ttl = _json_text(value, "event"), _json_retry(value), value.get("ttl")
    if ttl is not None and type(ttl) not in (int, float):
        raise ValueError("ttl is not a number of seconds")
    excluded, keep = _json_text(value, "except"), value.get("keep")
    if keep is not None and not isinstance(keep, bool):
        raise ValueError("keep is not true or false")
    return {
        "type": event,
        "retry": retry,
        "ttl": ttl,
        "excluded": excluded,
        "keep": bool(keep),
        "idempotency_key": _read_key(value.get("idempotency_key")),
    }


def _json_text(value: dict[str, Any], field: str) -> str | None:
    found = value.get(field)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{field} is not text")
    return found


def _json_retry(value: dict[str, Any]) -> int | None:
    retry = value.get("retry")
    if type(retry) is float and retry.is_integer():
        return int(retry)  # as some encoders write it: 3000.0
    if retry is not None and type(retry) is not int:  # True is an int, too
        raise ValueError("retry is not a whole number")
    return retry


def _json_channels(value: dict[str, Any]) -> list[str]:
    names: list[str] = []
    for field in CHANNEL_FIELDS:
        if field not in value:
            continue
        given = value[field]
        listed = [given] if isinstance(given, str) else given
        try:
            if not isinstance(listed, list):
                raise TypeError
            "".join(listed).encode()  # in one call: each must be text, without half of a surrogate pair
        except (TypeError, UnicodeEncodeError):
            raise ValueError(f"{field} is not text") from None
        names += listed
    return names


def _compact(value: object) -> str:
    try:
        return compact_json(value)
    except (ValueError, RecursionError):
        raise ValueError("message cannot be written as JSON") from None


def _check_type(type: str) -> None:
    if not 1 <= len(type) <= MAX_TYPE:
        raise ValueError(f"event is not 1 to {MAX_TYPE} characters long")
    if type.startswith(OWN_TYPES):
        raise ValueError(f"event begins with {OWN_TYPES}, which is reserved for the server's own events")
    if any(character in type for character in "\r\n\0"):
        raise ValueError("event contains a line break or NUL")
    if not is_utf8(type):
        raise ValueError("event is not text")
