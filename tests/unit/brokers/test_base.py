"""What every broker guarantees: order, no loss on reconnect, gap events, no harm by slow clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from cyclone_sse.brokers import Broker, HttpBroker
from cyclone_sse.delivery.events import GAP_TYPE
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import MANY
from tests.unit.fakes import FakeClient, TurnClock

CHANNELS = ("a", "b", "c")


def turns(clock: TurnClock) -> None:
    """Run the reactor until all work under way is done."""
    for _ in range(10):
        clock.turn()


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


@pytest.fixture
def broker(clock: TurnClock) -> HttpBroker:
    return HttpBroker({}, reactor=clock)


def test_each_client_gets_the_messages_of_its_channels(broker: HttpBroker, clock: TurnClock) -> None:
    first, second = FakeClient(broker).listen("a"), FakeClient(broker).listen("b", "c")
    for number, channel in enumerate(["a", "b", "c", "empty", "a"]):
        broker.publish([channel], str(number))
    clock.turn()
    assert first.messages == ["0", "4"]
    assert second.messages == ["1", "2"]


def test_a_name_that_is_too_long_costs_only_its_own_message(broker: HttpBroker, clock: TurnClock) -> None:
    client = FakeClient(broker).listen("a")
    broker.broadcast(None, "x" * 256, "dropped")
    broker.broadcast(None, "a", "sent")
    clock.turn()
    assert broker.hub.history.events == 1
    assert client.messages == ["sent"]


def test_events_of_one_turn_leave_in_one_write(broker: HttpBroker, clock: TurnClock) -> None:
    client = FakeClient(broker).listen("a", "b")
    before = client.socket.sends
    for number in range(10):
        broker.publish(["ab"[number % 2]], str(number))
    clock.turn()
    assert client.socket.sends == before + 1
    assert client.messages == [str(number) for number in range(10)]


def test_one_message_to_several_channels_is_one_event(broker: HttpBroker, clock: TurnClock) -> None:
    both, one = FakeClient(broker).listen("a", "b"), FakeClient(broker).listen("b")
    broker.publish(["a", "b"], "x")
    clock.turn()
    assert both.messages == one.messages == ["x"]
    assert both.events[0].id == one.events[0].id
    assert FakeClient(broker).listen("b", "a", last_event_id="earliest").messages == ["x"]


def test_one_name_given_as_text_is_one_channel(broker: HttpBroker, clock: TurnClock) -> None:
    client = FakeClient(broker).listen("chat")
    broker.publish("chat", "x")
    clock.turn()
    assert client.messages == ["x"]


def test_a_message_that_is_not_utf8_is_dropped_and_said(broker: HttpBroker, clock: TurnClock) -> None:
    client = FakeClient(broker).listen("a")
    broker.broadcast(None, "a", b"\xff")
    broker.broadcast(None, "a", b"ok")
    clock.turn()
    assert client.messages == ["ok"]


def test_a_blocked_pattern_is_dropped(clock: TurnClock) -> None:
    class Picky(HttpBroker):
        def is_pattern_blocked(self, pattern: str) -> bool:
            return pattern == "secret.*"

    picky = Picky({}, reactor=clock)
    client = FakeClient(picky).listen("secret.*", "open.*")
    picky.broadcast("secret.*", "secret.x", "1")
    picky.broadcast("open.*", "open.x", "2")
    clock.turn()
    assert client.messages == ["2"]


def test_a_broadcast_to_many_is_cut_in_slices_and_stays_in_order(
    broker: HttpBroker, clock: TurnClock
) -> None:
    broker.hub._fanout._slice = 3
    clients = [FakeClient(broker).listen("a") for _ in range(10)]
    broker.publish(["a"], "1")
    clock.turn()
    assert [len(client.messages) for client in clients] == [1] * 3 + [0] * 7, "the reactor has its turn"
    broker.publish(["a"], "2")
    clients.append(FakeClient(broker).listen("a"))
    clients.append(FakeClient(broker).listen("a", last_event_id="earliest"))
    clients[9].leave()
    for _ in range(20):
        clock.turn()
    assert [client.messages for client in clients] == [["1", "2"]] * 9 + [[], [], ["1", "2"]]


def test_a_sendevent_that_raises_affects_no_other_client(
    broker: HttpBroker, clock: TurnClock, failures: list[object]
) -> None:
    broken, sound = FakeClient(broker).listen("a"), FakeClient(broker).listen("a")

    def render(events: object) -> bytes:
        raise ZeroDivisionError

    broken.subscriber.render = render
    broken.subscriber.shares_frames, broken.subscriber.ready_socket = False, None
    broker.publish(["a"], "1")
    clock.turn()
    assert sound.messages == ["1"]
    assert len(failures) == 1


def test_pings_come_after_silence_only(broker: HttpBroker, clock: TurnClock) -> None:
    broker.start()
    silent, busy = FakeClient(broker).listen("a"), FakeClient(broker).listen("b")
    for _ in range(26):
        clock.advance(1)
        broker.publish(["b"], "x")
        clock.turn()
    assert b"ping" not in silent.socket.received + busy.socket.received
    clock.pump([1] * 5)
    assert bytes(silent.socket.received).endswith(b": sse ping\n\n")
    assert b"ping" not in busy.socket.received


def test_the_first_ping_brings_an_id_to_come_back_with(broker: HttpBroker, clock: TurnClock) -> None:
    broker.start()
    client = FakeClient(broker).listen("a")
    clock.pump([1] * 31)
    assert client.parse() == []
    came_with = client._parser.last_id
    client.leave()
    broker.publish(["a"], "missed")
    assert FakeClient(broker).listen("a", last_event_id=came_with).messages == ["missed"]


def test_what_is_published_when_the_server_stops_goes_out(broker: HttpBroker, clock: TurnClock) -> None:
    from twisted.internet.defer import Deferred

    client = FakeClient(broker).listen("a")
    broker.publish(["a"], "last")
    stopped = Deferred.fromCoroutine(broker.stop())
    clock.pump([0, 0.01, 0.01])
    assert stopped.called
    assert client.messages == ["last"]
    assert client.socket.closed


def test_a_slow_client_falls_back_to_the_history(broker: HttpBroker, clock: TurnClock) -> None:
    slow = FakeClient(broker, limit=1000, room=300).listen("a")
    fast = FakeClient(broker, limit=1000).listen("a")
    for number in range(50):
        broker.publish(["a"], f"{number} {'x' * 50}")
        clock.turn()
    assert len(fast.messages) == 50
    assert slow.subscriber.figures().waiting_bytes < 2000
    assert slow.messages != fast.messages
    slow.socket.read(None)
    assert slow.messages == fast.messages
    assert broker.hub.counters.deliveries == 100, "what was dropped counts when it is sent"
    broker.publish(["a"], "live")
    clock.turn()
    assert slow.messages[-1] == "live"


@dataclass
class Person:
    """A subscriber that is cut off and reconnects, with the events and gaps it received."""

    channels: tuple[str, ...]
    joined: int  # how many messages had been published
    client: FakeClient | None
    gaps: list[tuple[int, set[str]]] = field(default_factory=list)
    got: list[tuple[str, str]] = field(default_factory=list)  # id, message
    came_with: str = ""


class World:
    """One broker, its publications and its subscribers."""

    def __init__(self, **settings: float) -> None:
        self.clock = TurnClock()
        self.broker: Broker = HttpBroker(settings, reactor=self.clock)
        self.broker.hub._fanout._slice = 2
        self.published: list[tuple[tuple[str, ...], str]] = []
        self.people: list[Person] = []

    def publish(self, channels: tuple[str, ...], size: int) -> None:
        message = f"{len(self.published)}:{'x' * size}"
        self.published.append((channels, message))
        self.broker.publish(channels, message)

    def join(self, channels: tuple[str, ...], room: int | None) -> None:
        client = FakeClient(self.broker, limit=4000, room=room).listen(*channels)
        self.people.append(Person(channels, len(self.published), client))

    def leave(self, person: Person) -> None:
        client = person.client
        if client is None:
            return
        for event in client.parse():
            if event.type == GAP_TYPE:
                person.gaps.append((len(self.published), set(json.loads(event.data)["channels"])))
            else:
                person.got.append((event.id, event.data))
        person.came_with = client.last_event_id
        client.leave()
        person.client = None

    def come_back(self, person: Person, room: int | None) -> None:
        self.leave(person)
        client = FakeClient(self.broker, limit=4000, room=room)
        person.client = client.listen(*person.channels, last_event_id=person.came_with)

    def settle(self) -> None:
        for _ in range(3):
            for _ in range(50):
                self.clock.turn()
            for person in self.people:
                if person.client is None or person.client.socket.closed:
                    self.come_back(person, None)
                else:
                    person.client.socket.read(None)
        for person in self.people:
            self.leave(person)


def names() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True).map(tuple)


rooms = st.one_of(st.none(), st.integers(0, 600))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), names(), st.sampled_from([0, 1, 40, 900])),
        st.tuples(st.just("join"), names(), rooms),
        st.tuples(st.just("leave"), st.integers(0, 9), st.none()),
        st.tuples(st.just("come back"), st.integers(0, 9), rooms),
        st.tuples(st.just("read"), st.integers(0, 9), st.integers(0, 600)),
        st.tuples(st.just("turn"), st.integers(1, 3), st.none()),
        st.tuples(st.just("wait"), st.integers(1, 4), st.none()),
    ),
    max_size=60,
)


def play(world: World, script: list[tuple[str, object, object]]) -> None:
    for what, who, how in script:
        person = world.people[who % len(world.people)] if isinstance(who, int) and world.people else None
        match what:
            case "publish":
                world.publish(who, how)  # type: ignore[arg-type]
            case "join":
                world.join(who, how)  # type: ignore[arg-type]
            case "turn":
                for _ in range(who):  # type: ignore[call-overload]
                    world.clock.turn()
            case "wait":
                world.clock.advance(who)  # type: ignore[arg-type]
            case _ if person is None:
                pass
            case "leave":
                world.leave(person)
            case "come back":
                world.come_back(person, how)  # type: ignore[arg-type]
            case "read" if person.client is not None:
                person.client.socket.read(how)  # type: ignore[arg-type]
    world.settle()


def due(world: World, person: Person) -> Iterator[tuple[int, tuple[str, ...], str]]:
    for number, (channels, message) in enumerate(world.published):
        if number >= person.joined and set(channels) & set(person.channels):
            yield number, channels, message


@given(script=steps)
def test_nothing_is_lost_doubled_or_out_of_order(script: list[tuple[str, object, object]]) -> None:
    world = World()
    play(world, script)
    for person in world.people:
        assert [message for _, message in person.got] == [message for _, _, message in due(world, person)]
        assert person.gaps == []


@given(
    script=steps,
    size=st.integers(0, 4),
    ttl=st.sampled_from([2.0, 300.0]),
    most=st.sampled_from([3000, 1 << 20]),
)
def test_what_the_history_cannot_give_is_told(
    script: list[tuple[str, object, object]], size: int, ttl: float, most: int
) -> None:
    world = World(**{"history-size": size, "history-ttl": ttl, "history-bytes": most})
    play(world, script)
    for person in world.people:
        got = [message for _, message in person.got]
        expected = list(due(world, person))
        assert got == [message for _, _, message in expected if message in set(got)]
        for number, channels, message in expected:
            if message not in got:
                listened = set(channels) & set(person.channels)
                assert any(number < when and listened <= told for when, told in person.gaps), message


@given(script=steps, came_with=st.sampled_from(["earliest", "nonsense", "1-1-abc", "9" * 15 + "-0-abc"]))
def test_a_client_with_a_foreign_id_gets_the_whole_history(
    script: list[tuple[str, object, object]], came_with: str
) -> None:
    world = World()
    play(world, script)
    client = FakeClient(world.broker).listen(*CHANNELS, last_event_id=came_with)
    assert client.messages == [message for _, message in world.published]
    gaps = [json.loads(event.data)["channels"] for event in client.events if event.type == GAP_TYPE]
    assert gaps == ([] if came_with == "earliest" else [list(CHANNELS)])


def test_an_order_about_very_many_channels_is_carried_out_in_slices(
    broker: HttpBroker, clock: TurnClock
) -> None:
    names = [f"user-{number}" for number in range(3 * MANY)]
    client = FakeClient(broker).listen(names[-1])
    before = broker.position()
    for name in names:
        broker.hub.publish(publication(name, "old", keep=True))
    turns(clock)
    held = [len(broker.hub.states)]
    count = broker.obey({"end": {"channel": names}, "clear": {"channel": names}})
    assert isinstance(count, Deferred)
    held.append(len(broker.hub.states))
    newer = broker.hub.publish(publication(names[-1], "new", keep=True))
    while not count.called:
        clock.turn()
        held.append(len(broker.hub.states))
    assert max(more - less for more, less in pairwise(held)) <= MANY
    turns(clock)
    assert count.result == 1
    assert client.socket.closing
    assert broker.hub.states.of(names) == [newer]
    back = FakeClient(broker).listen(names[0], last_event_id=before)
    assert [event.type for event in back.parse()] == [GAP_TYPE]


@pytest.mark.parametrize(
    "end", [None, 5, "a", {"channel": 5}, {"channel": [["a"], 5, None]}, {"user": ["7"]}, {"user": {}}]
)
def test_an_order_that_makes_no_sense_ends_nothing(broker: HttpBroker, clock: TurnClock, end: object) -> None:
    client = FakeClient(broker).listen("a")
    assert broker.obey({"end": end}) == 0
    turns(clock)
    assert not client.socket.closing


class Globs(HttpBroker):
    def is_pattern(self, channel: str) -> bool:
        return "*" in channel

    def canonical(self, pattern: str) -> str:
        return pattern.replace("**", "*")


def test_the_patterns_of_all_clients_together_are_bounded(clock: TurnClock) -> None:
    made = Globs({"max-patterns-total": 2}, reactor=clock)
    first = FakeClient(made).listen("a*", "b**", "plain")
    made.ready(["a*", "b*", "other"])
    with pytest.raises(Refusal) as refusal:
        made.ready(["c*"])
    assert (refusal.value.status, "Retry-After" in refusal.value.headers) == (503, True)
    assert first.subscriber.channels == ("a*", "b*", "plain")
    first.leave()
    made.ready(["c*", "d*"])
