"""Stand-ins for a connection to Redis or RabbitMQ, and for a broker that has such connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock

from cyclone_sse.brokers.link import NotAllowed
from cyclone_sse.brokers.subscribing import SubscribingBroker
from cyclone_sse.delivery import client as delivery
from cyclone_sse.delivery.client import Seq


class FakeLink:
    """A connection; answers are given when the test says so."""

    def __init__(self, prompt: bool = True) -> None:
        self.transport = self
        self.ended: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self.blocked: str | None = None
        self.heartbeats: list[str] = []
        self.login: Deferred[Any] = Deferred()
        self.held: set[str] = set()
        self.pending: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.published: list[tuple[Any, Deferred[Any]]] = []  # publications, or an order
        self.forbidden: set[str] = set()
        self.aborted = False
        self.busy = False
        if prompt:
            self.login.callback(None)

    def log_in(self) -> Deferred[Any]:
        return self.login

    def subscribe(self, channel: str) -> Deferred[Any]:
        if channel in self.forbidden:
            return fail(NotAllowed("NOPERM"))
        if self.busy:
            return fail(ValueError("BUSY Redis is busy running a script"))
        return self._later(lambda: self.held.add(channel))

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        return self._later(lambda: self.held.discard(channel))

    def _later(self, action: Callable[[], None]) -> Deferred[Any]:
        if self.lost is not None:
            return fail(self.lost)
        done: Deferred[None] = Deferred()
        self.pending.append((action, done))
        return done

    def publish(self, publications: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.published.append((publications, done))
        return done

    publish_order = publish

    def publish_heartbeat(self, token: str) -> Deferred[Any]:
        self.heartbeats.append(token)
        return succeed(None)

    def abort(self, error: Exception) -> None:
        self.aborted = True
        self.lose(error)

    def log_out(self) -> None:
        self.lose()

    def abortConnection(self) -> None:
        self.aborted = True
        if self.lost is None:
            self.lose()

    def answer(self, n: int = 10_000) -> None:
        """Carry out commands, in their order."""
        for _ in range(min(n, len(self.pending))):
            action, done = self.pending.pop(0)
            action()
            done.callback(None)

    def lose(self, reason: BaseException | None = None) -> None:
        """The connection breaks, with everything that waits on it."""
        self.lost = reason or ConnectionLost()
        pending, self.pending = self.pending, []
        for _, done in pending:
            done.errback(self.lost)
        for _, waiting in self.published:
            if not waiting.called:
                waiting.errback(self.lost)
        self.ended.callback(self.lost)


class FakeBroker(SubscribingBroker[FakeLink]):
    """A broker of fake links; `reachable` says what comes of an attempt to connect."""

    has_heartbeat = False

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        super().__init__({"linger": 0, "ping-interval": 0, **settings}, "fake", self.clock)
        self.server = "Fake at 1:2"
        self.links: list[FakeLink] = []
        self.receivers: list[FakeLink] = []  # those of them that are not for publishing
        self.attempts = 0  # to connect for receiving
        self.reachable: Callable[[], Any] = FakeLink
        self.gaps: list[set[str]] = []
        self.sure: list[str] = []  # without a gap
        self.orders: list[Any] = []
        send_gap, confirm = self.hub.send_gap, self.hub.set_complete

        def gap(channels: Iterable[str]) -> None:
            self.gaps.append(set(channels))
            send_gap(channels)

        def confirmed(channels: Iterable[str]) -> None:
            names = list(channels)
            self.sure += names
            confirm(names)

        self.hub.send_gap, self.hub.set_complete = gap, confirmed  # type: ignore[method-assign]

    def open_link(self, publishing: bool) -> Deferred[Any]:
        self.attempts += not publishing
        try:
            link = self.reachable()
        except Exception as error:
            return fail(error)
        if isinstance(link, Deferred):
            return link
        self.links.append(link)
        if not publishing:
            self.receivers.append(link)
        return succeed(link)

    def obey(self, order: Any) -> int:
        self.orders.append(order)
        return 3

    def needed(self) -> set[str]:
        """What the upstream is to be subscribed to."""
        return {each.channel for each in self.subscriptions}

    def come(self, client: Client, *channels: str) -> list[Any]:
        """Let a client in as the handler does; gives [True] when it is in, or the error."""
        fate: list[Any] = []

        def let_in(_: object = None) -> None:
            self.add_client(client, channels)
            fate.append(True)

        waiting = self.ready(channels)
        if waiting is None:
            let_in()
        else:
            waiting.addCallbacks(let_in, lambda failure: fate.append(failure.value))
        return fate


class Client(delivery.Client):
    """What the broker wants of a handler; it is a client that keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriber = self

    def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
        """Drop it."""

    def end(self, why: Any) -> None:
        """Remember it; the test takes the client away."""
        self.ending = why


def refused() -> Any:
    raise ConnectionRefusedError


def wrong() -> Any:
    raise ValueError("WRONGPASS")


def connected(**settings: Any) -> FakeBroker:
    broker = FakeBroker(**settings)
    broker.connect()
    return broker


def outcome(d: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    d.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
