"""A connection that is kept up, over links that the test holds in its hands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from cyclone_sse.brokers.base import BrokerUnavailable
from cyclone_sse.brokers.upstream import GREETING_WAIT, LAST_RETRY, PUBLISH_WAIT, UpstreamBroker, retry_delay
from cyclone_sse.delivery import client as delivery


class FakeLink:
    """A connection; answers are given when the test says so."""

    def __init__(self, prompt: bool = True) -> None:
        self.transport = self
        self.gone: Deferred[BaseException] = Deferred()
        self.lost: BaseException | None = None
        self.greeting: Deferred[Any] = Deferred()
        self.held: set[str] = set()
        self.pending: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.published: list[tuple[Sequence[str], bytes, Deferred[None]]] = []
        self.aborted = False
        if prompt:
            self.greeting.callback(None)

    def greet(self) -> Deferred[Any]:
        return self.greeting

    def subscribe(self, channel: str) -> Deferred[Any]:
        return self._later(lambda: self.held.add(channel))

    def unsubscribe(self, channel: str) -> Deferred[Any]:
        return self._later(lambda: self.held.discard(channel))

    def _later(self, action: Callable[[], None]) -> Deferred[Any]:
        if self.lost is not None:
            return fail(self.lost)
        done: Deferred[None] = Deferred()
        self.pending.append((action, done))
        return done

    def publish(self, channels: Sequence[str], message: bytes) -> Deferred[Any]:
        done: Deferred[None] = Deferred()
        self.published.append((channels, message, done))
        return done

    def leave(self) -> None:
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

    def lose(self) -> None:
        """The connection breaks, with everything that waits on it."""
        self.lost = ConnectionLost()
        pending, self.pending = self.pending, []
        for _, done in pending:
            done.errback(self.lost)
        for *_, waiting in self.published:
            if not waiting.called:
                waiting.errback(self.lost)
        self.gone.callback(self.lost)


class FakeBroker(UpstreamBroker):
    """A broker of fake links; `reachable` says what comes of an attempt to connect."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        super().__init__({"linger": 0, "ping-interval": 0, **settings}, "fake", "Fake at 1:2", self.clock)
        self.links: list[FakeLink] = []
        self.attempts = 0
        self.reachable: Callable[[], Any] = FakeLink
        self.gaps: list[set[str]] = []
        self.sure: list[str] = []

    def open(self, publishing: bool) -> Deferred[Any]:
        self.attempts += 1
        try:
            link = self.reachable()
        except Exception as error:
            return fail(error)
        if isinstance(link, Deferred):
            return link
        self.links.append(link)
        return succeed(link)

    def interrupted(self, channels: Any) -> None:
        self.gaps.append(set(channels))
        super().interrupted(channels)

    def confirmed(self, channel: str) -> None:
        self.sure.append(channel)
        super().confirmed(channel)


class Client(delivery.Client):
    """What the broker wants of a handler; it is a client that keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriber = self

    def send(self, data: bytes, frames: Sequence[bytes] = ()) -> None:
        """Drop it."""


def refused() -> Any:
    raise ConnectionRefusedError


def wrong() -> Any:
    raise ValueError("WRONGPASS")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines that are logged."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_namespace"].startswith(("cyclone_sse", __name__)) and event["log_format"]:
            lines.append(event["log_format"].format_map(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


def connected(**settings: Any) -> FakeBroker:
    broker = FakeBroker(**settings)
    broker.connect()
    return broker


def test_a_channel_is_confirmed_when_the_upstream_says_so() -> None:
    broker = connected()
    broker.add_client(Client(), "a")
    assert broker.sure == []
    broker.links[0].answer()
    assert (broker.sure, broker.links[0].held, broker.gaps) == (["a"], {"a"}, [])


def test_what_is_asked_for_while_it_is_away_is_confirmed_when_it_is_back() -> None:
    broker = FakeBroker()
    broker.reachable = refused
    broker.connect()
    stays, leaves = Client(), Client()
    broker.add_client(stays, ["a", "b"])
    broker.add_client(leaves, ["b", "c"])
    broker.remove_client(leaves)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 5)
    broker.links[0].answer()
    assert broker.links[0].held == {"a", "b"}
    assert sorted(broker.sure) == ["a", "b"]
    assert broker.gaps == []  # they were never there, so they were not interrupted
    assert broker._unconfirmed == {}  # nor is anything left of those who went


def test_after_a_loss_everything_is_asked_for_again_and_the_gap_told_once() -> None:
    broker = connected()
    client = Client()
    broker.add_client(client, ["a", "b"])
    broker.links[0].answer()
    broker.links[0].lose()
    late = Client()
    broker.add_client(late, ["b", "c"])
    broker.clock.pump([1] * 3)
    broker.links[1].answer(1)
    assert broker.gaps == []
    broker.links[1].answer()
    assert (broker.links[1].held, broker.gaps) == ({"a", "b", "c"}, [{"a", "b"}])
    assert broker.sure == ["a", "b", "c"]


def test_a_loss_during_the_way_back_tells_no_gap_yet() -> None:
    broker = connected()
    broker.add_client(Client(), ["a", "b"])
    broker.links[0].answer()
    broker.links[0].lose()
    broker.clock.pump([1] * 3)
    broker.links[1].answer(1)
    broker.links[1].lose()
    assert broker.gaps == []
    broker.clock.pump([1] * 3)
    broker.links[2].answer()
    assert broker.gaps == [{"a", "b"}]


def test_a_confirmation_of_what_was_given_back_confirms_nothing_new() -> None:
    broker = connected()
    client = Client()
    broker.add_client(client, "a")
    broker.remove_client(client)
    broker.add_client(client, "a")
    link = broker.links[0]
    link.answer(1)
    assert broker.sure == []  # it will be given back next, with what is published until then
    link.answer()
    assert (broker.sure, link.held) == (["a"], {"a"})


def test_each_change_of_state_is_one_line(log: list[str]) -> None:
    broker = FakeBroker()
    broker.reachable = refused
    broker.connect()
    broker.clock.pump([1] * 60)
    assert broker.attempts > 5
    broker.reachable = wrong
    broker.clock.pump([1] * 60)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 30)
    broker.links[-1].lose()
    broker.reachable = refused
    broker.clock.pump([1] * 60)
    broker.reachable = FakeLink
    broker.clock.pump([1] * 30)
    assert [line.partition(":")[0] for line in log] == [
        "cannot reach Fake at 1",
        "refused by Fake at 1",
        "back at Fake at 1",
        "lost Fake at 1",
        "back at Fake at 1",
    ]
    assert "WRONGPASS" in log[1]


def test_one_that_does_not_answer_the_login_is_given_up(log: list[str]) -> None:
    broker = FakeBroker()
    broker.reachable = lambda: FakeLink(prompt=False)
    broker.connect()
    broker.clock.advance(GREETING_WAIT)
    assert broker.links[0].aborted
    broker.reachable = FakeLink
    broker.clock.pump([1] * 3)
    assert log == [
        "cannot reach Fake at 1:2: no answer in time; trying on",
        "back at Fake at 1:2, 0 channels",
    ]


def test_the_time_between_attempts_grows_to_twenty_seconds() -> None:
    assert max(retry_delay(n) for n in range(1000)) <= LAST_RETRY == 20
    assert min(retry_delay(n) for n in range(20, 1000)) >= LAST_RETRY / 2
    assert max(retry_delay(0) for _ in range(100)) < 1


def test_one_that_hangs_up_at_once_is_not_asked_in_a_tight_loop() -> None:
    broker = connected()
    for _ in range(600):
        if broker.links[-1].lost is None:
            broker.links[-1].lose()
        broker.clock.advance(1)
    assert broker.attempts < 60


def outcome(d: Deferred[None]) -> list[Any]:
    results: list[Any] = []
    d.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


def test_publishing_has_a_connection_of_its_own_and_waits_for_the_answer() -> None:
    broker = connected()
    done = outcome(broker.publish(["a", "b"], "é"))
    assert len(broker.links) == 2
    ((channels, message, answer),) = broker.links[1].published
    assert (channels, message, done) == (("a", "b"), "é".encode(), [])
    answer.callback(None)
    assert done == [[None]]
    outcome(broker.publish(["a"], "x"))
    assert len(broker.links) == 2
    broker.links[1].lose()
    outcome(broker.publish(["a"], "x"))
    assert len(broker.links) == 3


def test_what_cannot_be_handed_over_is_broker_unavailable_with_the_reason() -> None:
    broker = connected()
    broker.reachable = refused
    (error,) = outcome(broker.publish(["a"], "x"))
    assert isinstance(error, BrokerUnavailable)
    assert str(error).startswith("Fake at 1:2: Connection was refused")
    broker.reachable = FakeLink
    lost = outcome(broker.publish(["a"], "x"))
    broker.links[-1].lose()
    assert isinstance(lost[0], BrokerUnavailable)


@pytest.mark.parametrize("stuck", ["connecting", "log-in", "answer"])
def test_publishing_does_not_wait_for_ever(stuck: str) -> None:
    broker = connected()
    if stuck == "connecting":
        broker.reachable = Deferred
    elif stuck == "log-in":
        broker.reachable = lambda: FakeLink(prompt=False)
    fates = [outcome(broker.publish(["a"], "x")) for _ in range(100)]
    broker.clock.advance(PUBLISH_WAIT)
    assert str(fates[0][0]) == "Fake at 1:2: no answer in time"
    assert {type(error) for (error,) in fates} == {BrokerUnavailable}
    broker.reachable = FakeLink
    before = len(broker.links)
    done = outcome(broker.publish(["a"], "x"))
    assert len(broker.links) == before + 1
    broker.links[-1].published[0][2].callback(None)
    assert done == [[None]]


def test_at_the_end_all_connections_are_left_and_none_is_made(log: list[str]) -> None:
    broker = connected()
    outcome(broker.publish(["a"], "x"))
    gone = outcome(broker.disconnect())
    assert gone == [None]
    assert all(link.lost for link in broker.links)
    broker.clock.pump([1] * 60)
    assert len(broker.links) == 2
    assert not any(line.startswith("lost") for line in log)


class Registry(RuleBasedStateMachine):
    """Clients come and go while the connection does: what is held is always what the registry says."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.broker = connected()

    @property
    def link(self) -> FakeLink | None:
        link = self.broker.links[-1]
        return link if link.lost is None else None

    @rule(target=clients, channels=st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    def come(self, channels: list[str]) -> Client:
        client = Client()
        self.broker.add_client(client, channels)
        return client

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        self.broker.remove_client(client)

    @rule(n=st.integers(1, 3))
    def answer(self, n: int) -> None:
        if self.link:
            self.link.answer(n)

    @rule()
    def lose(self) -> None:
        if self.link:
            self.link.lose()

    @rule()
    def return_(self) -> None:
        self.broker.clock.pump([1] * 25)

    @invariant()
    def what_is_held_is_what_is_wanted(self) -> None:
        if self.link:
            held = set(self.link.held)
            for action, _ in self.link.pending:
                saved, self.link.held = self.link.held, held
                action()
                self.link.held = saved
            assert held == self.broker.interests.names() == {name for name, _ in self.broker.stats()}

    def teardown(self) -> None:
        self.broker.clock.pump([1] * 25)
        assert self.link
        self.link.answer()
        assert self.link.held == self.broker.interests.names()
        assert set(self.broker.sure) >= self.broker.interests.names()


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=100, stateful_step_count=30)
