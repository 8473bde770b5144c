"""Reads an event stream as a browser does.

The parser follows the WHATWG text (https://html.spec.whatwg.org/multipage/server-sent-events.html),
so that what it returns is what a browser's listener would see.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: the id that stands after it, its type, and its data with LF as line break."""

    id: str
    type: str
    data: str


@dataclass(slots=True)
class Parser:
    """Bytes of an event stream in, events out; comments and `retry` are kept beside them."""

    comments: list[str] = field(default_factory=list)
    retry: int | None = None
    last_id: str = ""
    _rest: bytes = b""
    _id: str = ""
    _type: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, received: bytes) -> list[Event]:
        """The events that are complete with these bytes. CR, LF and CRLF all end a line."""
        self._rest += received
        # a CR at the very end may be half of a CRLF: leave it for the next time
        whole = self._rest[:-1] if self._rest.endswith(b"\r") else self._rest
        lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + self._rest[len(whole) :]
        events = (self._line(line.decode("utf-8", "replace")) for line in lines)
        return [event for event in events if event is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id  # not before the blank line: an event that is cut off has no id yet
        event = Event(self.last_id, self._type or "message", "\n".join(self._data)) if self._data else None
        self._type, self._data = "", []
        return event
