"""Where we are in the stream, and whether something was lost, over a stream that the test plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cyclone_sse.brokers.redis_stream import (
    LOT_BYTES,
    LOT_WORDS,
    MAX_LOT,
    RedisStreamBroker,
)
from cyclone_sse.brokers.redis_stream_arrivals import AHEAD_WAIT, RELEASED_AT_ONCE
from cyclone_sse.brokers.redis_stream_position import BEGINNING
from cyclone_sse.delivery.client import Seq
from cyclone_sse.delivery.publication import publication
from tests.unit.brokers.links import Client
from tests.unit.brokers.redis_streams import FakeStream, Reader, done, number
from tests.unit.fakes import FakeClient
from tests.unit.http.peer import MemoryServer


def test_it_begins_with_what_is_young_enough() -> None:
    stream = FakeStream()
    for _ in range(10):
        stream.add()
    reader = Reader(stream, **{"history-ttl": 0.004})  # 4 ms: the entries 6 to 10
    assert reader.told == ["tag1", 6, 7, 8, 9, 10]
    assert reader.broker.hub.position() == "10-0-tag1"
    assert reader.broker.hub.history.floor("a") == 5 << 64  # nothing lies between 5 and 6


@pytest.mark.parametrize(
    ("kept", "floor"),
    [(5, 1), (3, (3 << 64) - 1), (0, 5 << 64)],
    ids=["never trimmed", "trimmed", "empty"],
)
def test_the_floor_is_the_start_of_the_stream_unless_nothing_was_trimmed(kept: int, floor: int) -> None:
    stream = FakeStream()
    for _ in range(5):
        stream.add()
    stream.entries = stream.entries[5 - kept :]
    assert Reader(stream).broker.hub.history.floor("other") == floor


def test_a_lot_is_small_at_first_and_never_many_bytes() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    for _ in range(3000):
        stream.add()
    lots = reader.read_all()
    assert (lots[0], max(lots), sum(lots)) == (16, MAX_LOT, 3000)
    for _ in range(20):
        stream.add(b"channel", b"a", b"message", b"x" * (LOT_BYTES // 4))
    lots = [size for size in reader.read_all() if size]
    assert lots[-1] <= 4


def test_a_lot_has_never_many_names() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    names = [word for number in range(1000) for word in (b"channel", b"%d" % number)]
    for _ in range(100):
        stream.add(*names, b"message", b"x")
    sizes = reader.read_all()
    assert sizes[:2] == [16, LOT_WORDS // 2002]
    assert sum(sizes) == 100


def test_it_knows_how_many_entries_it_has_not_read_yet() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    for _ in range(100):
        stream.add()
    done(reader.broker.read_lot(stream))  # type: ignore[arg-type]
    assert reader.broker.lag == 84
    reader.read_all()
    assert reader.broker.lag == 0


def test_a_client_that_has_heard_more_than_we_have_read_waits() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    stream.add()
    assert reader.broker.ready(["a"], "0-1-tag1") is None
    assert reader.broker.ready(["a"], "9-0-other") is None
    waiting = [reader.broker.ready(["a"], id) for id in ("1-0-tag1", "2-0-tag1")]
    reader.read()
    reader.clock.advance(0)
    assert [d.called for d in waiting if d] == [True, False]
    reader.clock.advance(AHEAD_WAIT)
    assert [d.called for d in waiting if d] == [True, True]
    assert not reader.broker._arrivals


class Crowd:
    """Clients that have received elsewhere what their server has not read yet, each up to its entry."""

    def __init__(self, *entries: int) -> None:
        self.stream = FakeStream()
        self.server = MemoryServer({"history-ttl": 1000}, broker=RedisStreamBroker)
        done(self.server.broker.set_up(self.stream))
        self.entries = entries
        self.wires = [
            self.server.connect("GET", "/?channels=a", f"Last-Event-ID: {n}-0-tag1", turn=False)
            for n in entries
        ]

    def add_and_read(self, n: int = 1) -> None:
        for _ in range(n):
            self.stream.add()
        done(self.server.broker.read_lot(self.stream))

    def turn(self) -> int:
        """Take one turn of the reactor; returns how many clients were released in it."""
        before = len(self.server.broker._arrivals)
        self.server.clock.turn()
        return before - len(self.server.broker._arrivals)


def test_clients_that_wait_for_one_entry_are_released_in_slices() -> None:
    crowd = Crowd(*[1] * (2 * RELEASED_AT_ONCE + 1))
    crowd.add_and_read()
    assert [crowd.turn() for _ in range(4)] == [RELEASED_AT_ONCE, RELEASED_AT_ONCE, 1, 0]


def test_a_client_that_leaves_before_its_slice_is_not_subscribed() -> None:
    crowd = Crowd(*[1] * (RELEASED_AT_ONCE + 2))
    crowd.add_and_read()
    crowd.turn()
    crowd.wires[-1].connection.connectionLost(Failure(ConnectionDone()))
    crowd.server.turn()
    assert len(crowd.server.broker.hub.clients) == RELEASED_AT_ONCE + 1


def test_a_client_that_has_waited_long_enough_is_not_released_twice(failures: list[Any]) -> None:
    crowd = Crowd(*[1] * (RELEASED_AT_ONCE + 1))
    crowd.add_and_read()
    crowd.turn()
    crowd.server.clock.advance(AHEAD_WAIT)
    crowd.server.turn()
    assert len(crowd.server.broker.hub.clients) == RELEASED_AT_ONCE + 1
    assert failures == []


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.sampled_from(["read", "turn"]), max_size=12),
)
def test_each_client_that_waited_receives_every_later_entry_once(
    entries: list[int], steps: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyclone_sse.brokers.redis_stream_arrivals.RELEASED_AT_ONCE", 1)
        crowd = Crowd(*entries)
        for step in (*steps, *["read"] * 5):
            if step == "read":
                crowd.add_and_read()
            else:
                crowd.turn()
        for _ in range(30):
            crowd.turn()
    assert not crowd.server.broker._arrivals
    total = 5 + steps.count("read")
    for n, wire in zip(entries, crowd.wires, strict=True):
        assert wire.events == [str(each) for each in range(n + 1, total + 1)]


def test_a_pattern_has_what_its_channels_have() -> None:
    stream = FakeStream()
    reader = Reader(stream, **{"history-ttl": 100})
    for name in (b"news.a", b"other", b"news.b"):
        stream.add(b"channel", name, b"message", b"x")
    stream.add(b"channel", b"news.a", b"channel", b"news.b", b"message", b"x")
    reader.read()
    client = FakeClient(reader.broker).listen("news.*", last_event_id="0-1-tag1")
    stream.add(b"channel", b"news.c", b"message", b"x")
    reader.read()
    reader.clock.advance(0)
    assert [event.id for event in client.parse()] == [f"{n}-0-tag1" for n in (1, 3, 4, 5)]


def test_the_ids_of_what_was_published_have_the_tag() -> None:
    reader = Reader(FakeStream())
    sent = [publication("a", "x"), publication("a", "y")]
    assert reader.broker._event_ids([b"5-0", b"5-1"], sent) == ["5-0-tag1", "5-1-tag1"]
    reader.broker.publish_all([publication("a", "x", "t", 5)]).addErrback(
        lambda _: None
    )  # all that it carries


def test_orders_from_before_the_start_are_over() -> None:
    stream = FakeStream()
    stream.add(b"control", b'{"end": {"user": "old"}}')
    orders: list[Any] = []

    class Obeying(RedisStreamBroker):
        def obey(self, order: Any) -> int:
            orders.append(order)
            return 0

    broker = Obeying({}, reactor=Clock())
    done(broker.set_up(stream))  # type: ignore[arg-type]
    stream.add(b"control", b'{"end": {"user": "new"}}')
    done(broker.read_lot(stream))  # type: ignore[arg-type]
    assert orders == [{"end": {"user": "new"}}]


@pytest.mark.parametrize(
    "order", [b'{"end": {"channel": 5}}', b'{"end": {"channel": [["a"]]}}', b'{"end": {"user": ["7"]}}']
)
def test_an_order_that_makes_no_sense_ends_nothing_and_repeats_nothing(order: bytes) -> None:
    stream = FakeStream()
    reader = Reader(stream)
    stream.add()
    stream.add(b"control", order)
    stream.add()
    reader.read()
    reader.read()
    assert reader.told == ["tag1", 1, 3]


def test_an_entry_that_cannot_be_published_is_left_behind(failures: list[Any]) -> None:
    stream = FakeStream()
    reader = Reader(stream)
    publish = reader.broker.hub.publish

    def fail_for_the_second(each: Any, eid: Any = None) -> Any:
        if each.data == b"2":
            raise ZeroDivisionError
        return publish(each, eid)

    reader.broker.hub.publish = fail_for_the_second  # type: ignore[assignment]
    for _ in range(3):
        stream.add()
    reader.read()
    reader.read()
    assert reader.told == ["tag1", 1, 3]
    assert len(failures) == 1


def test_who_hears_nothing_for_long_has_an_id_that_others_know() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    hub = reader.broker.hub

    class Quiet(Client):
        def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
            sent.append(data)

    sent: list[bytes] = []
    hub.start()
    reader.broker.add_client(Quiet(), ["quiet"])
    for _ in range(2):
        stream.add()
        reader.read()
        reader.clock.pump([1] * 31)
    hub.stop()
    assert sent == [b"id: 1-0-tag1\n: sse ping\n\n", b"id: 2-0-tag1\n: sse ping\n\n"]


class Losses(RuleBasedStateMachine):
    """Entries are added, read, trimmed and lost: each is sent once and in order, or else a gap is.

    And with a Redis that counts none is told for nothing.
    """

    counts = True

    def __init__(self) -> None:
        super().__init__()
        self.stream = FakeStream(self.counts)
        self.reader = Reader(self.stream)
        self.unread: list[int] = []
        self.missed = False  # a gap must be sent with the next entries or at the next connection
        self.told = 1

    @rule(n=st.integers(1, 3))
    def add(self, n: int) -> None:
        self.unread += [self.stream.add() for _ in range(n)]

    @rule(n=st.integers(0, 3))
    def trim_to(self, n: int) -> None:
        dropped = {int(number(id)) for id, _ in self.stream.entries[: max(0, len(self.stream.entries) - n)]}
        self.stream.entries = self.stream.entries[max(0, len(self.stream.entries) - n) :]
        self.missed |= not dropped.isdisjoint(self.unread)
        self.unread = [each for each in self.unread if each not in dropped]

    @rule()
    def lose(self) -> None:
        self.stream.lose()
        self.missed, self.unread = True, []

    @precondition(lambda self: not self.unread and self.stream.entries and not self.missed)
    @rule(n=st.integers(1, 2))
    def go_back(self, n: int) -> None:
        self.stream.go_back(min(n, len(self.stream.entries)))
        self.missed = True
        self.read(connect=True)

    @rule(connect=st.booleans())
    def read(self, connect: bool) -> None:
        self.settle(connect)
        if self.missed and not self.unread:
            # It is found out with the next entries, or at the next connection.
            self.settle(True)

    def settle(self, connect: bool) -> None:
        if not self.counts and self.reader.broker._position.last == BEGINNING:
            self.missed = False  # it cannot know what was before the first that it reads
        if connect:
            self.reader.connect()
        self.reader.read_all()

    @invariant()
    def all_is_told(self) -> None:
        new = self.reader.told[self.told :]
        if not new and (self.unread or self.missed):
            return  # not read yet
        self.told = len(self.reader.told)
        numbers = [each for each in new if isinstance(each, int)]
        assert numbers == self.unread
        gaps = len(new) - len(numbers)
        assert gaps or not self.missed
        if self.counts:
            assert not gaps or self.missed
        self.missed, self.unread = False, []


TestLosses = Losses.TestCase
TestLosses.settings = settings(max_examples=60, stateful_step_count=20)


class LossesWithoutCounts(Losses):
    """With a Redis before 7.0."""

    counts = False


TestLossesWithoutCounts = LossesWithoutCounts.TestCase
TestLossesWithoutCounts.settings = settings(max_examples=60, stateful_step_count=20)


@given(st.binary(max_size=20), st.lists(st.binary(max_size=20), max_size=6))
def test_no_entry_ends_the_reading(first: bytes, others: list[bytes]) -> None:
    stream = FakeStream()
    reader = Reader(stream)
    stream.add(first, *others[: len(others) // 2 * 2 + 1] or [b""])
    stream.add(b"channel", b"a", b"message", b"x")
    reader.read()
    assert reader.told[-1] == 2
