"""The plainest possible clients: a blocking subscriber over a raw socket, and a publisher."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tests.harness.eventstream import Event, Parser
from tests.harness.patience import PATIENCE

_opened: set[Subscriber] = set()  # without this one that is left open would warn in whichever test runs later


def close_opened() -> None:
    """Close all subscribers that are open."""
    for subscriber in list(_opened):
        subscriber.close()


class Subscriber:
    """A subscriber on a socket of its own. It reads only in the methods that wait, so it can play a slow one.

    `channels` is one name or several; `query` are further parameters, `headers` further request headers;
    `tls` is a context for an https URL; `receive_buffer` (bytes) keeps the kernel from reading ahead.
    """

    def __init__(
        self,
        url: str,
        channels: str | Sequence[str] = "base",
        last_event_id: str | None = None,
        *,
        path: str = "/",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        names = [channels] if isinstance(channels, str) else list(channels)
        parameters = urlencode([("channels", name) for name in names] + list((query or {}).items()))
        where = urlsplit(url)
        lines = [f"GET {path}?{parameters} HTTP/1.1", f"Host: {where.netloc}", "Accept: text/event-stream"]
        if last_event_id is not None:
            lines.append(f"Last-Event-ID: {last_event_id}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        plain = socket.socket(socket.AF_INET6 if ":" in (where.hostname or "") else socket.AF_INET)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket: socket.socket = plain
        _opened.add(self)
        try:
            plain.connect((where.hostname, where.port))
            self.socket = tls.wrap_socket(plain, server_hostname=where.hostname) if tls else plain
            self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        except BaseException:
            self.close()
            raise
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.parser = Parser()
        self.ended = False
        self._received = b""
        self._chunked = False
        self._events: list[Event] = []

    @property
    def last_event_id(self) -> str:
        """What a browser would send as Last-Event-ID when it connected again now."""
        return self.parser.last_id

    @property
    def comments(self) -> list[str]:
        """The comment lines (pings) read so far, without their colon."""
        return self.parser.comments

    def wait_open(self) -> Self:
        """Read until the head of the response is there and the body has begun: from now on events arrive."""
        self._read_until(lambda: self.status and (self.body or self.ended), "the stream to open")
        return self

    def events(self, count: int) -> list[Event]:
        """The next `count` events; AssertionError with what did come when they are not there in time."""
        self._read_until(lambda: len(self._events) >= count, f"{count} events")
        taken, self._events = self._events[:count], self._events[count:]
        return taken

    def event(self) -> Event:
        """The next event."""
        return self.events(1)[0]

    def data(self, count: int) -> list[str]:
        """The data of the next `count` events."""
        return [event.data for event in self.events(count)]

    def wait_comment(self) -> str:
        """Read until one more comment (a ping) has come; returns it."""
        before = len(self.comments)
        self._read_until(lambda: len(self.comments) > before, "a comment")
        return self.comments[before]

    def wait_end(self) -> bytes:
        """Read until the server has ended the response; returns the whole body."""
        self._read_until(lambda: self.ended, "the end of the response")
        return self.body

    def pending(self) -> list[Event]:
        """The events read and not yet taken; reads nothing. Publish a last event and wait for it first."""
        return list(self._events)

    def keep_open(self) -> None:
        """Stay open when the test ends: a fixture of several tests closes it."""
        _opened.discard(self)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self.socket.close()
        _opened.discard(self)

    def __enter__(self) -> Self:
        try:
            return self.wait_open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_until(self, condition: Any, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            left = end - time.monotonic()
            if self.ended or left <= 0:
                how = "the response ended" if self.ended else f"not within {PATIENCE:g} s"
                got = f"status {self.status}, events {self._events}, body {self.body[-500:]!r}"
                raise AssertionError(f"waited for {what}: {how}; {got}")
            self.socket.settimeout(left)
            try:
                self._take(self.socket.recv(65536))
            except TimeoutError:
                continue
            except ConnectionError:
                self.ended = True

    def _take(self, received: bytes) -> None:
        self._received += received
        if not received:
            self.ended = True
        if not self.status:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            self._received = rest
            status, *lines = head.decode("latin-1").split("\r\n")
            self.status = int(status.split()[1])
            self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            self._chunked = self.headers.get("transfer-encoding") == "chunked"
        content = self._dechunk() if self._chunked else self._received
        if not self._chunked:
            self._received = b""
        self.body += content
        if self.headers.get("content-length") == str(len(self.body)):
            self.ended = True
        self._events += self.parser.feed(content)

    def _dechunk(self) -> bytes:
        content = b""
        while (mark := self._received.find(b"\r\n")) >= 0:
            size = int(self._received[:mark], 16)
            end = mark + 2 + size + 2
            if len(self._received) < end:
                break
            content += self._received[mark + 2 : end - 2]
            self._received = self._received[end:]
            self.ended = self.ended or size == 0
        return content


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; `json` is its body when that is JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Response:
    """One request on a connection of its own."""
    where = urlsplit(url)
    assert where.hostname is not None
    if where.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            where.hostname, where.port, context=tls, timeout=PATIENCE
        )
    else:
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE)
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def publish(
    url: str,
    channel: str | Iterable[str],
    message: str,
    key: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Publish a message to one channel or several as a form; AssertionError unless the server says ok."""
    fields = [("channel", name) for name in ([channel] if isinstance(channel, str) else channel)]
    fields += [("message", message)] + ([("key", key)] if key is not None else [])
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = request("POST", f"{url}/publish", urlencode(fields), form, tls)
    assert (answer.status, answer.json) == (200, {"status": "ok"}), answer


def stats(url: str) -> dict[str, int]:
    """The number of subscribers of each channel."""
    return dict(request("GET", f"{url}/stats").json)
