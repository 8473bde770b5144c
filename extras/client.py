#!/usr/bin/env python3
"""Load a cyclone-sse server with subscribers, and measure how fast a message reaches all of them.

    extras/client.py -n 9000                          open 9,000 streams, and report how fast that was
    extras/client.py -n 9000 --publish 20             then publish 20 messages, one after another
    extras/client.py -n 1000 --publish 500 -w 4       keep 4 messages under way, and count deliveries a second
    extras/client.py -n 9000 --hold 60                stay connected for a minute, and measure that
    extras/client.py -n 9000 --ramp 60                connect one after another, within a minute
    extras/client.py -n 9000 --publish 20 --resume    then cut off all, and report how fast they resume
    extras/client.py -n 1000 --slow 50 --publish 500  50 of them do not read: are the others affected?

One process with one epoll loop, and only the standard library: reading an event costs this client less than
sending one costs the server, so that the server is measured. Run the client on a core of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from load_publisher import HEAD_END, READ, LoadError, Publisher
from load_report import Progress, Report, Spread

SPARE_FILES = 32  # descriptors in addition to the subscribers'
RAMP_STEP = 0.01  # seconds
EVENT_END = b"\n\n"


@dataclass(slots=True)
class Stream:
    """One subscriber: the progress of its response, an incomplete event, and the received events."""

    socket: socket.socket
    open: bool = False
    rest: bytes = b""
    got: int = 0
    last_id: bytes = b""


class Load:
    """The subscribers, and the loop that reads their streams."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            self.where = urlsplit(url)
            port = self.where.port or 80
        except ValueError as error:
            raise LoadError(f"{url!r} is not a URL: {error}") from None
        if self.where.scheme != "http" or not self.where.hostname:
            raise LoadError(f"the URL must be like http://127.0.0.1:8888/?channels=base, not {url!r}")
        self.timeout = timeout
        self.report = Report()
        self.streams: dict[int, Stream] = {}
        self._poll = select.epoll()
        self._failed: Counter[str] = Counter()
        self._slow: list[socket.socket] = []
        self._marker = f"load-{secrets.token_hex(6)}".encode()
        self._on_events: Callable[[int, int], None] | None = None
        self._publisher: Publisher | None = None
        try:
            address = socket.getaddrinfo(self.where.hostname, port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise LoadError(f"{self.where.hostname}: {getattr(error, 'strerror', error)}") from None
        self._family, self._address = address[0], address[4]
        target = f"{self.where.path or '/'}?{self.where.query}"
        head = f"GET {target} HTTP/1.1\r\nHost: {self.where.netloc}\r\nAccept: text/event-stream\r\n"
        self._request = head.encode()
        self._keep_ids = False

    # Connecting

    def connect(self, number: int, concurrency: int, ramp: float, keep_ids: bool = False) -> None:
        """Open `number` streams over `ramp` seconds, at most `concurrency` of them under way at any time."""
        self._keep_ids = keep_ids
        progress = Progress("connecting", number)
        begin = time.perf_counter()
        started = 0
        while (done := self.report.connected + self._failed.total()) < number:
            passed = time.perf_counter() - begin
            ramping = passed < ramp
            wanted = int(number * passed / ramp) if ramping else number
            while started < wanted and started - done < concurrency:
                started += 1
                self._start()
            if not self._turn(RAMP_STEP if ramping else None) and not ramping:
                self._failed["no answer in time"] += number - done
                break
            progress.show(self.report.connected)
        self.report.connect_seconds = time.perf_counter() - begin
        self.report.connects_per_second = self.report.connected / self.report.connect_seconds
        self.report.failed = dict(self._failed)

    def _start(self, last_id: bytes = b"") -> None:
        connection = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._address)
        except BlockingIOError:
            pass
        except OSError as error:
            connection.close()
            self._failed[str(error.strerror)] += 1
            return
        self.streams[connection.fileno()] = Stream(connection, last_id=last_id)
        self._poll.register(connection.fileno(), select.EPOLLOUT)

    def stop_reading(self, number: int) -> None:
        """Stop reading this number of streams, which stay connected."""
        for descriptor in list(self.streams)[:number]:
            self._poll.unregister(descriptor)
            self._slow.append(self.streams.pop(descriptor).socket)
        self.report.slow = len(self._slow)

    def look_after_slow(self) -> None:
        """Find out which slow streams the server has ended, by reading the bytes that were sent before."""
        for connection in self._slow:
            with suppress(BlockingIOError):
                self.report.slow_ended += is_ended(connection)

    # The loop

    def _turn(self, timeout: float | None = None) -> bool:
        """Handle the events of epoll; false when there were none for `timeout` seconds."""
        events = self._poll.poll(self.timeout if timeout is None else timeout, 4096)
        for descriptor, event in events:
            if stream := self.streams.get(descriptor):
                if event & select.EPOLLOUT:
                    self._ask(descriptor, stream)
                else:
                    self._read(descriptor, stream)
            elif self._publisher and descriptor == self._publisher.socket.fileno():
                self._publisher.ready(event)
        return bool(events)

    def _ask(self, descriptor: int, stream: Stream) -> None:
        try:
            resume = b"Last-Event-ID: " + stream.last_id + b"\r\n" if stream.last_id else b""
            stream.socket.send(self._request + resume + b"\r\n")
        except OSError as error:
            self._drop(descriptor, str(error.strerror))
        else:
            self._poll.modify(descriptor, select.EPOLLIN)

    def _read(self, descriptor: int, stream: Stream) -> None:
        try:
            received = stream.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(descriptor, str(error.strerror))
            return
        if not received:
            self._drop(descriptor, "closed by the server")
        elif stream.open:
            self._count(stream, received)
        else:
            self._begin(descriptor, stream, received)

    def _begin(self, descriptor: int, stream: Stream, received: bytes) -> None:
        """Read the head of the response, after which the subscriber counts as connected."""
        head, end, body = (stream.rest + received).partition(HEAD_END)
        if not end:
            stream.rest = head
            return
        status = head.split(b"\r\n", 1)[0].split(b" ", 1)[-1].decode(errors="replace")
        if not status.startswith("200"):
            self._drop(descriptor, f"answer {status}")
            return
        stream.open, stream.rest = True, b""
        if self._keep_ids:
            stream.last_id = last_id_in(head, b"\r\nLast-Event-ID: ") or stream.last_id
        self.report.connected += 1
        if body:
            self._count(stream, body)

    def _count(self, stream: Stream, received: bytes) -> None:
        """Count our events among those that are now complete."""
        if stream.rest:
            received = stream.rest + received
        if received.endswith(EVENT_END):
            stream.rest = b""
        else:
            end = received.rfind(EVENT_END) + len(EVENT_END) if EVENT_END in received else 0
            received, stream.rest = received[:end], received[end:]
        if self._keep_ids:
            stream.last_id = last_id_in(received, b"\nid: ") or stream.last_id
        if self._on_events and (events := received.count(self._marker)):
            before = stream.got
            stream.got += events
            self._on_events(before, stream.got)

    def _drop(self, descriptor: int, reason: str) -> None:
        stream = self.streams.pop(descriptor)
        stream.socket.close()
        if stream.open:
            self.report.closed_by_server += 1
        else:
            self._failed[reason] += 1

    # Publishing

    def publish(self, messages: int, window: int, size: int, channel: str, key: str | None) -> None:
        """Publish `messages` of `size` bytes, `window` of them under way, and time each delivery."""
        message = json.dumps(self._marker.decode().ljust(size - 2, "x"))
        self._publisher = Publisher(self.where, self._poll, channel, message, key)
        progress = Progress("publishing", messages)
        subscribers = len(self.streams)
        sent: list[float] = []
        first: list[float] = []
        last: list[float] = []
        reached = [0] * messages

        def on_events(start: int, end: int) -> None:
            for message in range(start, end):
                reached[message] += 1
                if reached[message] == 1:
                    first.append(time.perf_counter() - sent[message])
                if reached[message] == subscribers:
                    last.append(time.perf_counter() - sent[message])

        self._on_events = on_events
        begin = end = time.perf_counter()
        while len(last) < messages and self.streams:
            while len(sent) < messages and len(sent) - len(last) < window:
                sent.append(time.perf_counter())
                self._publisher.publish()
            if not self._turn() or len(self.streams) < subscribers:
                break
            progress.show(len(last))
            end = time.perf_counter()
        self._on_events = None
        report = self.report
        report.published, report.expected = len(sent), len(sent) * subscribers
        report.delivered = sum(reached)
        report.deliveries_per_second = report.delivered / max(end - begin, 1e-9)
        report.first_subscriber, report.last_subscriber = Spread.of(first), Spread.of(last)

    def resume(self, messages: int, concurrency: int) -> None:
        """Cut all streams off, publish `messages` again, and measure how fast all streams receive them."""
        assert self._publisher, "has published before"
        ids = [stream.last_id for stream in self.streams.values()]
        for stream in self.streams.values():
            stream.socket.close()  # which also removes the socket from epoll
        self.streams.clear()
        for count in range(self._publisher.answered + 1, self._publisher.answered + messages + 1):
            self._publisher.publish()
            while self._publisher.answered < count:
                if not self._turn():
                    raise LoadError("publishing was not answered in time")
        report, connected = self.report, self.report.connected
        report.cut, failed_before = len(ids), self._failed.total()

        def on_events(start: int, end: int) -> None:
            report.resumed += start < messages <= end

        self._on_events = on_events
        progress = Progress("coming back", report.cut)
        begin = time.perf_counter()
        started = 0
        while (done := report.resumed + self._failed.total() - failed_before) < report.cut:
            while started < report.cut and started - done < concurrency:
                self._start(ids[started])
                started += 1
            if not self._turn():
                break
            progress.show(report.resumed)
        report.resume_seconds = time.perf_counter() - begin
        report.connected, self._on_events = connected, None

    def hold(self, seconds: float) -> None:
        """Stay connected, and read events."""
        end = time.monotonic() + seconds
        while (self.streams or self._slow) and (left := end - time.monotonic()) > 0:
            self._turn(min(left, 1.0))


def last_id_in(text: bytes, name: bytes) -> bytes:
    """The text between the last `name` and the end of its line; empty if there is none."""
    _, found, rest = (b"\n" + text).rpartition(name)
    return rest.partition(b"\n")[0].strip() if found else b""


def is_ended(connection: socket.socket) -> bool:
    """Whether the server has ended the connection, after all its bytes; raises BlockingIOError if not."""
    try:
        while connection.recv(READ):
            pass
    except ConnectionError:
        pass
    return True


def raise_file_limit(needed: int) -> None:
    """Allow this process this number of descriptors; raises LoadError if the system's maximum is lower."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise LoadError(f"this needs {needed} file descriptors and the hard limit is {hard}: see ulimit -Hn")


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """An argument that is a time of at most a year."""
    if not 0 <= (duration := float(text)) <= 366 * 86400:
        raise ValueError(text)
    return duration


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    option = parser.add_argument
    option("-n", "--number", type=positive, default=1000, help="subscribers (default 1000)")
    option(
        "-c", "--concurrency", type=positive, default=200, help="connections under way at once (default 200)"
    )
    option(
        "-u",
        "--url",
        default="http://127.0.0.1:8888/?channels=base",
        help="URL to subscribe to, with the channels",
    )
    option(
        "-p",
        "--publish",
        type=positive,
        metavar="N",
        help="publish N messages through /publish of the server",
    )
    option("-w", "--window", type=positive, default=1, help="messages under way at once (default 1)")
    option("-s", "--size", type=positive, default=60, help="bytes of a message (default 60)")
    option("--channel", default="base", help="channel to publish to (default base)")
    option("--key", help="the server's --http-secret")
    option(
        "--ramp", type=seconds, default=0.0, metavar="SECONDS", help="open the streams evenly over this time"
    )
    option("--slow", type=positive, default=0, metavar="N", help="N of the subscribers stop reading")
    option(
        "--resume",
        action="store_true",
        help="then disconnect all, publish again, and measure how fast they resume",
    )
    option(
        "--hold",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="stay connected for this time, then report",
    )
    option(
        "--timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="give up after this time without an event (default 10)",
    )
    option("--json", action="store_true", help="report as JSON")
    settings = parser.parse_args(words)
    if settings.resume and not settings.publish:
        parser.error("--resume needs --publish: what is there to miss?")
    if settings.publish and settings.slow >= settings.number:
        parser.error("--publish needs a subscriber that reads: --slow must be less than --number")
    return settings


def main() -> int:
    """Run the load; returns 0, or 1 if a stream or message was lost, or 2 if nothing could be measured."""
    settings = arguments()
    try:
        raise_file_limit(settings.number + SPARE_FILES)
        load = Load(settings.url, settings.timeout)
        load.connect(settings.number, settings.concurrency, settings.ramp, settings.resume)
        load.stop_reading(settings.slow)
        if settings.publish and load.streams:
            load.publish(settings.publish, settings.window, settings.size, settings.channel, settings.key)
            if settings.resume:
                load.resume(settings.publish, settings.concurrency)
        load.hold(settings.hold)
        load.look_after_slow()
    except LoadError as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
    print(json.dumps(asdict(load.report)) if settings.json else load.report)
    return 0 if load.report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
