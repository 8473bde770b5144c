"""Stand-ins for what the core talks to: a socket that is sometimes full, and a client behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock

from cyclone_sse.brokers import Broker
from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.http.headers import Headers
from tests.harness.eventstream import Event, Parser


def headers_of(named: Mapping[str, str]) -> Headers:
    """These headers, as they come with a request."""
    return Headers.from_raw([(name.encode(), value.encode("latin-1")) for name, value in named.items()])


class TurnClock(Clock):
    """A clock that can take a single turn, as the reactor does: what is scheduled in it has to wait."""

    def turn(self) -> None:
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            if call.active():
                self.calls.remove(call)
                call.called = True
                call.func(*call.args, **call.kw)


class MemoryTransport:
    """A transport in memory, to a client that has room for a number of bytes, and then reads or does not."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room  # None: endless
        self.received = bytearray()  # what the client has got
        self.buffer = bytearray()  # what Twisted has buffered
        self.producer: Any = None
        self.streaming = False  # the producer pushes
        self.closing = self.closed = self.aborted = False

    def _take(self, data: bytes | bytearray | memoryview) -> int:
        size = len(data) if self.room is None else min(self.room, len(data))
        self.received += data[:size]
        if self.room is not None:
            self.room -= size
        return size

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer, self.streaming = producer, streaming

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.closing = True
        self._settle()

    def abortConnection(self) -> None:
        self.closed = self.aborted = True

    def read(self, size: int | None = None) -> None:
        """Make room for `size` more bytes, as a client does that reads; without a size, without limit."""
        self.room = None if size is None else (self.room or 0) + size
        self._settle()

    def _settle(self) -> None:
        raise NotImplementedError


class FakeSocket(MemoryTransport):
    """A TCP transport. The kernel takes `room` bytes, then nothing until the client has read.

    It holds its user to the rules of the real one: nothing may overtake what `write` has buffered.
    """

    def __init__(self, room: int | None = None) -> None:
        super().__init__(room)
        self.sends = 0  # calls of `send`

    def getHandle(self) -> FakeSocket:
        return self

    def writeSomeData(self, data: bytes) -> int:
        """Stub: the server recognises a plain TCP transport by this method, and never calls it."""
        raise NotImplementedError

    def send(self, data: bytes) -> int:
        """Send as a non-blocking socket does: raise BlockingIOError when the buffer is full."""
        self.sends += 1
        assert not self.buffer, "these bytes overtake those in the transport's buffer"
        if self.closed:
            raise BrokenPipeError
        sent = self._take(data)
        if data and not sent:
            raise BlockingIOError
        return sent

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.buffer += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()

    def pauseProducing(self) -> None:
        """Nothing is read here."""

    resumeProducing = pauseProducing

    def _settle(self) -> None:
        while not self.closed:
            del self.buffer[: self._take(self.buffer)]
            if self.buffer:
                return
            if self.producer is None or self.streaming:
                break
            self.producer.resumeProducing()
            if not self.buffer and self.producer is not None:
                raise AssertionError("a pull producer gave nothing and stayed")
        if self.closing and self.producer is None:
            self.closed = True


class PushTransport(MemoryTransport):
    """A transport without a socket: it takes all bytes, and says when the client has not read them."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        super().registerProducer(producer, streaming)

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        self.buffer += data
        self._drain()
        if self.buffer and self.producer is not None:
            self.producer.pauseProducing()

    def read(self, size: int | None = None) -> None:
        """Make room for `size` more bytes, as a client does that reads; without a size, without limit."""
        had_bytes = bool(self.buffer)
        super().read(size)
        if had_bytes and not self.buffer and self.producer is not None and not self.closed:
            self.producer.resumeProducing()

    def _settle(self) -> None:
        self._drain()
        if self.closing and not self.buffer:
            self.closed = True

    def _drain(self) -> None:
        del self.buffer[: self._take(self.buffer)]


class FakeClient:
    """What a broker sees of a handler, and what the person behind it sees."""

    def __init__(self, broker: Broker, limit: int = 1 << 20, room: int | None = None) -> None:
        self.broker = broker
        self.socket = FakeSocket(room)
        self.subscriber = SocketClient(self.socket, b"", limit, self.socket)
        self.position = broker.position()
        self.sent: list[str] = []
        self._parser = Parser()
        self._parsed = 0
        self.events: list[Event] = []

    def listen(self, *channels: str, last_event_id: str | None = None) -> FakeClient:
        """Subscribe, as the handler does it."""
        self.position = last_event_id or self.broker.position()
        self.broker.add_client(self, channels, last_event_id)
        self.subscriber.open()
        return self

    def leave(self) -> None:
        """The connection is gone."""
        self.socket.closed = True
        self.subscriber.lost()
        self.broker.remove_client(self)

    def sendEvent(self, message: str, eid: str | None = None) -> None:
        self.sent.append(message)

    def parse(self) -> list[Event]:
        """All events so far."""
        self.events += self._parser.feed(bytes(self.socket.received[self._parsed :]))
        self._parsed = len(self.socket.received)
        return self.events

    @property
    def messages(self) -> list[str]:
        """The data of all plain events so far."""
        return [event.data for event in self.parse() if event.type == "message"]

    @property
    def last_event_id(self) -> str:
        """The last event id with which it reconnects."""
        self.parse()
        return self._parser.last_id or self.position
