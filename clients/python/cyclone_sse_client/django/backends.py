"""The backends, which send calls to the server, drop them, or record them for a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from cyclone_sse_client.calls import Call, Result
from cyclone_sse_client.django import conf
from cyclone_sse_client.publisher import Publisher


class HttpBackend(Publisher):
    """Sends to the server of the settings."""

    def __init__(self) -> None:
        super().__init__(conf.get("URL"), timeout=conf.get("TIMEOUT"), patience=conf.get("PATIENCE"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call that would have been sent: ``/publish`` or ``/disconnect``, and its body as JSON."""

    path: str
    body: Any

    @property
    def channels(self) -> list[str]:
        """The channels of a publication."""
        return list(self.body.get("channel", []))

    @property
    def message(self) -> Any:
        """The message of a publication."""
        return self.body["message"]


outbox: list[Recorded] = []


class RecordingBackend:
    """Sends nothing, and appends to ``outbox``; clear it in ``setUp``.

    In a ``TestCase`` nothing is committed: use ``self.captureOnCommitCallbacks(execute=True)``.
    """

    def call(self, call: Call[Result]) -> Result:
        """Record the call, and answer as a server without clients would."""
        outbox.append(Recorded(call.path, json.loads(call.body or b"null")))
        if call.method == "GET":
            return call.read(_nothing(call))
        count = len(outbox[-1].body) if isinstance(outbox[-1].body, list) else 1
        ids = [f"{len(outbox)}-{n}-recorded" for n in range(count)]
        return call.read({"ids": ids, "subscribers": 0, "streams": 0})


class NullBackend:
    """Sends nothing and records nothing: for a development machine without a server."""

    def call(self, call: Call[Result]) -> Result:
        """Drop the call."""
        return call.read({"subscribers": 0, "streams": 0} if call.method == "POST" else _nothing(call))


def _nothing(call: Call[Any]) -> dict[str, Any]:
    """What a server without clients and states answers to a GET."""
    path, _, query = call.path.partition("?")
    if path == "/presence":
        return {"channel": parse_qs(query)["channel"][0], "members": {}, "anonymous": 0}
    return {}
