"""The format ``text/event-stream`` (WHATWG HTML 9.2): bytes in, events out."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    ``type`` is ``message`` by default; ``channels`` are those channels of the subscription to which the event
    was published; an event of the type ``sse-gap`` means that events were missed.
    """

    type: str
    data: str
    id: str
    channels: tuple[str, ...] = field(default=())

    @property
    def json(self) -> Any:
        """The data as JSON."""
        return json.loads(self.data)


class Parser:
    """Reads a stream. After a reconnect use a new one, with the id of the last event."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = self._id = last_id
        self.retry: int | None = None  # milliseconds
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._rest: list[str] = []  # the pieces of a line that is not complete
        self._held = ""
        self._clear()

    def feed(self, received: bytes) -> list[Event]:
        """The events that these bytes complete."""
        text = self._held + self._decode(received)
        # A CR at the end may be the first half of a CRLF, and must wait for the rest.
        self._held = "\r" if text.endswith("\r") else ""
        # Only what is new is searched. Without this, an event of 8 MB would take 12 seconds.
        lines = _LINE_END.split(text.removesuffix("\r"))
        self._rest.append(lines[0])
        if len(lines) > 1:
            lines[0] = "".join(self._rest)
            self._rest = [lines[-1]]
        lines.pop()
        events = []
        for line in lines:
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _clear(self) -> None:
        self._data: list[str] = []
        self._type = ""
        self._channels: list[str] = []

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._end_of_event()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "channel":
            self._channels.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
        return None

    def _end_of_event(self) -> Event | None:
        event = None
        # Not before the blank line. Without this, an event that is cut off would count as received.
        self.last_id = self._id
        if self._data:
            data = "\n".join(self._data)
            event = Event(self._type or "message", data, self.last_id, tuple(self._channels))
        self._clear()
        return event
