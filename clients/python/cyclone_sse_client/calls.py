"""The requests of the calls, and the parsing of their answers. Both publishers use this module; no I/O.

Every publication has an idempotency key, so that the call can be repeated when its answer was lost:
the server publishes once for each key, and repeats the first answer.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from cyclone_sse_client.errors import CycloneSSEError, NotAllowed, Refused, Unavailable

Result = TypeVar("Result")
Dumps = Callable[[Any], str | bytes]

RETRY_STATUSES = (429, 502, 503, 504)  # a proxy answers 502 and 504 while the server restarts
_VISIBLE = re.compile("[!-~]{1,200}")
LONGEST_REASON = 300  # characters: a proxy's HTML page is truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a batch; the fields are those of ``Publisher.publish``."""

    channels: str | Iterable[str]
    message: Any
    event: str | None = None
    keep: bool = False
    ttl: float | None = None
    except_: str | None = None
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication.

    ``ids`` is empty with Redis pub/sub and RabbitMQ, where each server assigns its own; ``subscribers``
    counts the clients of this server.
    """

    ids: tuple[str, ...]
    subscribers: int

    @property
    def id(self) -> str | None:
        """The id of the last event, which a page that is being rendered can pass on as ``lastEventId``."""
        return self.ids[-1] if self.ids else None


@dataclass(frozen=True, slots=True)
class State:
    """The state of a channel: the last event that was published with ``keep``."""

    id: str
    event: str | None
    data: str

    @property
    def json(self) -> Any:
        """The data as JSON."""
        return json.loads(self.data)


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request, and the parser of its answer."""

    method: str
    path: str
    read: Callable[[Any], Result]
    headers: Mapping[str, str]
    body: bytes | None = None

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> Result:
        """Read the answer; header names are in lower case. Raises a CycloneSSEError unless it is a 200."""
        if status == 200:
            try:
                return self.read(json.loads(body))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CycloneSSEError(f"this is not an answer of cyclone-sse: {body[:100]!r}", status) from error
        answer = _object(body)
        reason = str(answer.get("reason") or body.decode("utf-8", "replace")[:LONGEST_REASON] or "no reason given")
        if status in RETRY_STATUSES:
            # After a 502 this is unknown: the server may have read the request before it stopped.
            published = False if answer.get("published") is False or status == 429 else None
            retry_after = _seconds(headers.get("retry-after"))
            raise Unavailable(reason, status, retry_after=retry_after, published=published)
        raise (NotAllowed if status in (401, 403) else Refused)(reason, status)


class Calls:
    """Makes the calls for one key. ``dumps`` is the JSON encoder: ``json.dumps``, ``orjson.dumps``, .."""

    def __init__(self, key: str | None = None, dumps: Dumps = json.dumps) -> None:
        if key and any(character in key for character in "\r\n\0"):
            # Without this, the exception of the first call would show the key.
            raise ValueError("the key has a line break: was it read from a file?")
        # A header's text is sent as Latin-1, and the server's key is UTF-8.
        self._authorization = {"Authorization": f"Bearer {key}".encode().decode("latin-1")} if key else {}
        self._dumps = dumps

    def publish(
        self,
        channels: str | Iterable[str],
        message: Any,
        *,
        event: str | None = None,
        keep: bool = False,
        ttl: float | None = None,
        except_: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Published]:
        """POST /publish with one object."""
        fields = _fields(
            Message(
                channels=channels,
                message=message,
                event=event,
                keep=keep,
                ttl=ttl,
                except_=except_,
                retry=retry,
            )
        )
        return self._post("/publish", fields, _published, _key(idempotency_key))

    def batch(self, messages: Iterable[Message], *, idempotency_key: str | None = None) -> Call[Published]:
        """POST /publish with an array: all are published, in order, or none."""
        key = _key(idempotency_key)
        body = [_fields(each) | {"idempotency_key": f"{key}-{n}"} for n, each in enumerate(messages)]
        if not body:
            raise ValueError("a batch needs at least one message")
        return self._post("/publish", body, _published)

    def disconnect(self, *, user: object = None, channels: str | Iterable[str] | None = None) -> Call[int]:
        """POST /disconnect for a user, or for channels."""
        if (user is None) == (channels is None):
            raise ValueError("name the user or the channels whose streams to end")
        fields = {"user": str(user)} if channels is None else {"channel": _names(channels)}
        return self._post("/disconnect", fields, lambda answer: int(answer["streams"]))

    def clear(self, channels: str | Iterable[str]) -> Call[None]:
        """POST /clear."""
        return self._post("/clear", {"channel": _names(channels)}, lambda answer: None)

    def presence(self, channel: str) -> Call[dict[str, Any]]:
        """GET /presence."""
        return self._get("/presence", [channel], dict)

    def state(self, channels: str | Iterable[str]) -> Call[dict[str, State]]:
        """GET /state."""
        return self._get("/state", _names(channels), _states)

    def _post(
        self, path: str, body: object, read: Callable[[Any], Result], idempotency_key: str | None = None
    ) -> Call[Result]:
        text = self._dumps(body)
        headers = {"Content-Type": "application/json", **self._authorization}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return Call("POST", path, read, headers, text.encode() if isinstance(text, str) else text)

    def _get(self, path: str, channels: Sequence[str], read: Callable[[Any], Result]) -> Call[Result]:
        query = urlencode([("channel", name) for name in channels])
        return Call("GET", f"{path}?{query}", read, self._authorization)


def _fields(message: Message) -> dict[str, Any]:
    """The JSON object for a message, without default values, so that older servers understand it."""
    optional = {
        "event": message.event,
        "keep": message.keep or None,
        "ttl": message.ttl,
        "except": message.except_,
        "retry": message.retry,
    }
    set_fields = {name: value for name, value in optional.items() if value is not None}
    return {"channel": _names(message.channels), "message": message.message, **set_fields}


def _names(channels: str | Iterable[str]) -> list[str]:
    return [channels] if isinstance(channels, str) else list(channels)


def _key(given: str | None) -> str:
    """The idempotency key, or a new one."""
    # Without this check, a key that cannot be sent in a header would be taken for a server that is away.
    if given and not _VISIBLE.fullmatch(given):
        raise ValueError("an idempotency key has 1 to 200 visible ASCII characters")
    return given or uuid.uuid4().hex


def _published(answer: Any) -> Published:
    ids = answer.get("ids") or ([answer["id"]] if "id" in answer else [])
    return Published(tuple(ids), int(answer["subscribers"]))


def _states(answer: Any) -> dict[str, State]:
    return {
        channel: State(str(state["id"]), state.get("event"), str(state["data"])) for channel, state in answer.items()
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; a date, which proxies may send, counts as none."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
