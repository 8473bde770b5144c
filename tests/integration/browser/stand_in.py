"""A small server of events that names the channels of each (`?fields=channel`), in place of the daemon.

It has the daemon's addresses: `/`, `/publish`, `/stats`. What it knows of a stream is in `streams`.
"""

from __future__ import annotations

import itertools
import json
import queue
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HISTORY = 1000  # events


@dataclass(eq=False)
class _Stream:
    channels: list[str]
    token: str
    queue: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)


class StandIn:
    """A running one; `refused` are channels that a subscriber may not hear."""

    def __init__(self) -> None:
        self.streams: list[_Stream] = []
        self.refused: set[str] = set()
        self._history: list[tuple[int, list[str], bytes]] = []
        self._node = secrets.token_hex(3)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

        class Handler(_Handler):
            owner = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def publish(self, channels: list[str], message: str, kind: str = "") -> None:
        """Send an event to whoever hears one of the channels."""
        with self._lock:
            number = next(self._ids)
            head = f"id: {number}-0-{self._node}\n" + (f"event: {kind}\n" if kind else "")
            named = "".join(f"channel: {name}\n" for name in channels)
            frame = f"{head}{named}data: {message}\n\n".encode()
            self._history = [*self._history, (number, channels, frame)][-HISTORY:]
            for stream in self.streams:
                if set(stream.channels) & set(channels):
                    stream.queue.put(frame)

    def begin(self, stream: _Stream, last_event_id: str) -> str:
        """Let a stream in; returns the id where it begins."""
        with self._lock:
            number = next(self._ids)
            present = f"{number}-0-{self._node}"
            asked = last_event_id.partition("-")[0]
            after = 0 if asked == "earliest" else int(asked or number)
            for past, channels, frame in self._history:
                if last_event_id and past > after and set(channels) & set(stream.channels):
                    stream.queue.put(frame)
            self.streams.append(stream)
        return last_event_id if "-" in last_event_id else present

    def end(self, stream: _Stream) -> None:
        """The client has gone."""
        with self._lock:
            self.streams.remove(stream)

    def cut(self) -> None:
        """End all streams."""
        for stream in list(self.streams):
            stream.queue.put(None)

    def stats(self) -> list[tuple[str, int]]:
        """How many streams each channel has."""
        return list(Counter(name for stream in list(self.streams) for name in stream.channels).items())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: StandIn

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path == "/stats":
            self._answer(200, self.owner.stats())
            return
        fields = parse_qs(where.query)
        channels = fields["channels"]
        if refused := self.owner.refused & set(channels):
            self._answer(403, {"status": "error", "reason": f"channel {refused.pop()} is not allowed"})
            return
        stream = _Stream(channels, self.headers.get("Authorization", ""))
        position = self.owner.begin(stream, fields.get("lastEventId", [""])[0])
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Last-Event-ID", position)
            self.end_headers()
            self._stream(stream)
        except OSError:
            return
        finally:
            self.owner.end(stream)

    def _stream(self, stream: _Stream) -> None:
        self.wfile.write(b"\n\n")
        while True:
            try:
                frame = stream.queue.get(timeout=0.1)
            except queue.Empty:
                frame = b":\n"  # learns by it that the client has gone
            if frame is None:
                return
            self.wfile.write(frame)

    def do_POST(self) -> None:
        fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.owner.publish(fields["channel"], fields["message"][0], fields.get("event", [""])[0])
        self._answer(200, {"status": "ok"})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
