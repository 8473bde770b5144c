"""How clients get what they missed: whole, once, in order, in pieces; the same question has one answer."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import pairwise

import pytest

from cyclone_sse.delivery import turn
from cyclone_sse.delivery.batch import BATCH_EVENTS
from cyclone_sse.delivery.events import PING, Event, EventId, EventIds
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.log_reader import NAMES
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Ending
from cyclone_sse.slices import MANY
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def test_who_has_heard_more_from_another_process_goes_on_from_there(clock: TurnClock) -> None:
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("shared", 1)
    hub.start()
    for number in (1, 2):
        hub.publish(publication("a", str(number)), EventId.of(number, 0, "shared"))
    client, poll = Recorder(), Recorder()
    hub.subscribe(client, ["a"], "4-0-shared")
    assert client.got == [], "what it had is not sent again, and nothing is missing"
    clock.advance(31)
    turns(clock)
    assert client.got == [PING], "and no id takes it back"
    hub.subscribe(poll, ["a"], "4-0-shared")
    for number in (3, 4, 5):
        hub.publish(publication("a", str(number)), EventId.of(number, 0, "shared"))
        turns(clock)
    assert client.data == poll.data == ["5"]


def test_who_has_heard_more_is_told_when_the_stream_was_lost(clock: TurnClock) -> None:
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("shared", 1)
    client = Recorder()
    hub.subscribe(client, ["a"], "4-0-shared")
    hub.reset_ids("renewed", 1)
    hub.publish(publication("a", "new"), EventId.of(2, 0, "renewed"))
    turns(clock)
    assert client.data == ['{"channels": ["a"]}', "new"]


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_a_client_that_connects_after_a_reset_gets_nothing_of_the_former_ids(
    clock: TurnClock, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "PAIRS", 1)
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("former", 1)
    turns(clock)
    before = [Recorder() for _ in range(3)]
    for client in before:
        hub.subscribe(client, ["a"])
    for number, name in enumerate(names, 5):
        hub.publish(publication(name, f"former {name}"), EventId.of(number, 0, "former"))
    clock.turn()  # with two names the walk is under way now
    hub.publish(publication("a", "former too"), EventId.of(9, 0, "former"))
    hub.send_gap(["a"])
    hub.reset_ids("new", 1)
    fresh = Recorder()
    hub.subscribe(fresh, ["a"])
    turns(clock)
    hub.publish(publication("a", "new"), EventId.of(2, 0, "new"))
    turns(clock)
    assert fresh.data == ["new"]
    assert all("former too" in client.data and client.data[-1] == "new" for client in before)


def test_a_slow_client_is_told_once_of_two_resets_in_one_turn(clock: TurnClock) -> None:
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("first", 1)
    turns(clock)
    socket = FakeSocket(0)
    client = socket_client(socket, limit=100)
    hub.subscribe(client, ["a"])
    client.open()
    client.send(b": waits\n\n" * 10)
    hub.reset_ids("second", 1)
    hub.reset_ids("third", 1)
    hub.publish(publication("a", "new"), EventId.of(2, 0, "third"))
    clock.turn()  # the first walk
    socket.read(None)
    turns(clock)
    assert data_of(socket) == ['{"channels":', "new"]


def test_those_who_ask_the_same_get_the_same_answer(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    for number in range(50):
        hub.publish(publication("a", str(number)))
    turns(clock)
    clients = [Recorder() for _ in range(100)]
    for number, client in enumerate(clients):
        hub.subscribe(client, ["a", f"own-{number}"], before)
    assert {id(client.got[0]) for client in clients} == {id(clients[0].got[0])}
    assert clients[0].data == [str(number) for number in range(50)]
    hub.publish(publication("a", "50"))
    late = Recorder()
    hub.subscribe(late, ["a"], before)
    assert late.data[-1] == "50", "the answer is another then"
    turns(clock)
    assert {client.data[-1] for client in [*clients, late]} == {"50"}
    assert late.data.count("50") == 1


def fill(hub: Hub, channels: int, events: int, size: int = 0) -> list[str]:
    names = [f"c{number}" for number in range(channels)]
    for number in range(channels * events):
        hub.publish(publication(names[number % channels], f"{number} {'x' * size}"))
    return names


def behind(hub: Hub, channels: list[str]) -> FakeSocket:
    """The socket of a client that asked for all that is held, and has room for little of it."""
    socket = FakeSocket(room=1000)
    client = socket_client(socket, b"head")
    hub.subscribe(client, channels, "earliest")
    client.open()
    return socket


def test_a_long_past_comes_in_pieces_with_turns_between(
    clock: TurnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(clock)
    names = fill(hub, 400, 20)
    turns(clock)
    asked: list[int] = []
    since = hub.history.since

    def count(seq: int, channels: Collection[str]) -> Iterator[Event]:
        asked.append(1)
        return since(seq, channels)

    monkeypatch.setattr(hub.history, "since", count)
    socket = behind(hub, names)
    assert len(asked) == 1, "the rest is asked for when the client has room"
    socket.read(None)
    lines = bytes(socket.received).decode().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("data: ")]
    assert numbers == list(range(8000))
    assert len(asked) >= 8


def test_what_is_forgotten_while_a_slow_client_catches_up_is_told(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=100)
    fill(hub, 1, 100, size=10_000)
    turns(clock)
    socket = behind(hub, ["c0"])
    for number in range(90):
        hub.publish(publication("c0", f"new {number}"))
    socket.read(None)
    turns(clock)
    lines = bytes(socket.received).decode().splitlines()
    gaps = [line for line in lines if line.startswith('data: {"channels"')]
    assert [json.loads(line[6:]) for line in gaps] == [{"channels": ["c0"]}]
    assert lines.index(gaps[0]) < lines.index("data: new 0")
    assert lines[-2] == "data: new 89"


@pytest.mark.parametrize("reads_at_once", [True, False])
@pytest.mark.parametrize("goes_back", [True, False])
def test_a_client_that_catches_up_when_ids_restart_gets_each_new_event_once(
    clock: TurnClock, reads_at_once: bool, goes_back: bool
) -> None:
    hub = make_hub(clock, history_size=100)
    fill(hub, 1, 100, size=10_000)
    turns(clock)
    socket = behind(hub, ["c0"])
    last = 5 if goes_back else hub.ids.last + (1 << 60)
    hub.reset_ids("new", last)
    for number in range(3):
        hub.publish(publication("c0", f"new {number}"), EventId(last + 1 + number, "new"))
    if reads_at_once:
        socket.read(None)
        turns(clock)
    else:
        turns(clock)
        socket.read(None)
    lines = bytes(socket.received).decode().splitlines()
    assert [line for line in lines if line.startswith("data: new")] == [f"data: new {n}" for n in range(3)]
    (gap,) = [at for at, line in enumerate(lines) if line.startswith('data: {"channels"')]
    assert gap < lines.index("data: new 0")


@pytest.mark.parametrize("adds", [False, True])
def test_a_client_that_falls_back_before_it_is_told_of_new_ids_gets_each_event_once(
    clock: TurnClock, adds: bool
) -> None:
    hub = make_hub(clock)
    socket = FakeSocket(0)
    client = socket_client(socket, limit=100)
    hub.subscribe(client, ["a"])
    client.open()
    for number in range(3):
        hub.publish(publication("a", f"old {number} {'x' * 100}"))
    clock.turn()
    for number in range(3, 6):
        hub.publish(publication("a", f"old {number} {'x' * 100}"))
    last = hub.ids.last + (1 << 60)
    hub.reset_ids("new", last)
    for number in range(3):
        hub.publish(publication("a", f"new {number}"), EventId(last + 1 + number, "new"))
    if adds:
        hub.subscribe(client, ["b"], str(EventId(last, "new")))
    clock.turn()  # the walk for the old events
    socket.read(None)
    turns(clock)
    lines = bytes(socket.received).decode().splitlines()
    assert [line for line in lines if line.startswith("data: new")] == [f"data: new {n}" for n in range(3)]
    hub.unsubscribe(client)
    assert not hub._resume.due_gap


def test_all_that_was_missed_comes_however_much_it_is(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=10_000)
    before = hub.position()
    for number in range(2 * BATCH_EVENTS + 1):
        hub.publish(publication("a", str(number)))
    client = Recorder()
    hub.subscribe(client, ["a"], before)
    turns(clock)
    assert client.data == [str(number) for number in range(2 * BATCH_EVENTS + 1)]


def test_earliest_is_told_of_no_gap_however_much_there_is(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=50)
    fill(hub, 1, 100, size=20_000)
    turns(clock)
    socket = FakeSocket()
    client = socket_client(socket, b"")
    hub.subscribe(client, ["c0"], "earliest")
    client.open()
    socket.read(None)
    assert b"sse-gap" not in socket.received
    assert bytes(socket.received).count(b"data: ") == 50


def test_coming_back_is_counted(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    hub.subscribe(Recorder(), ["a"], before)
    hub.subscribe(Recorder(), ["a"], "nonsense")
    hub.subscribe(Recorder(), ["a"], "earliest")
    hub.subscribe(Recorder(), ["a"])
    hub.publish(publication("a", "missed"))
    poll = PollClient(lambda: None, lambda answer: None, lambda: None)
    hub.subscribe(poll, ["a"], before)
    poll.open()
    assert poll.ending is Ending.ONCE, "a poll asks again and again: it does not come back"
    assert (hub.counters.resumes_complete, hub.counters.resumes_gap, hub.counters.subscribes) == (1, 1, 5)


@pytest.mark.parametrize("waiting", [["waits"], []])
def test_what_an_open_client_missed_of_an_added_channel_comes_in_slices_and_in_order(
    clock: TurnClock, waiting: list[str]
) -> None:
    hub = make_hub(clock, history_size=10_000)
    before = hub.position()
    for number in range(3 * BATCH_EVENTS):
        hub.publish(publication("a", str(number)))
    turns(clock)
    client, other = Recorder(), Recorder()
    for each in (client, other):
        hub.subscribe(each, ["b"])
    for text in waiting:
        hub.publish(publication(["a", "b"], text))
    hub.subscribe(client, ["a"], before)
    received = [0, len(client.data)]
    count = 0
    while any(call.getTime() <= clock.seconds() for call in clock.calls):
        if count < 3:
            hub.publish(publication(["a", "b"], f"live {count}"))
        count += 1
        clock.turn()
        received.append(len(client.data))
    assert max(after - earlier for earlier, after in pairwise(received)) <= BATCH_EVENTS
    live = [*waiting, "live 0", "live 1", "live 2"]
    assert client.data == [*map(str, range(3 * BATCH_EVENTS)), *live]
    assert other.data == live


def test_no_event_comes_twice_to_an_open_client_that_falls_back_while_it_is_sent_a_past(
    clock: TurnClock,
) -> None:
    hub = make_hub(clock, history_size=10_000)
    before = hub.position()
    for number in range(3 * BATCH_EVENTS):
        hub.publish(publication("a", f"{number} {'x' * 100}"))
    turns(clock)
    socket = FakeSocket(0)
    client = socket_client(socket, limit=50_000)
    hub.subscribe(client, ["b"])
    client.open()
    hub.subscribe(client, ["a"], before)
    turns(clock)
    hub.publish(publication("a", "live x"))
    turns(clock)
    socket.read(None)
    turns(clock)
    lines = bytes(socket.received).decode().splitlines()
    numbers = [line.split()[1] for line in lines if line.startswith("data: ")]
    assert numbers == [*map(str, range(3 * BATCH_EVENTS)), "live"]


def data_of(socket: FakeSocket) -> list[str]:
    lines = bytes(socket.received).decode().splitlines()
    return [line.split()[1] for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("with_id", [True, False])
def test_a_channel_that_is_added_while_the_client_catches_up_loses_nothing(
    clock: TurnClock, with_id: bool
) -> None:
    hub = make_hub(clock)
    before = hub.position()
    fill(hub, 1, 100, size=10_000)
    hub.publish(publication("b", "b-old"))
    turns(clock)
    socket = behind(hub, ["c0"])
    hub.subscribe(next(iter(hub.clients)), ["b"], before if with_id else None)
    turns(clock)
    hub.publish(publication("b", "b-new"))
    turns(clock)
    socket.read(None)
    hub.publish(publication("b", "b-later"))
    turns(clock)
    received = data_of(socket)
    assert sorted(received) == sorted([*map(str, range(100)), *["b-old"] * with_id, "b-new", "b-later"])
    assert received[-2:] == ["b-new", "b-later"]


def test_a_channel_that_is_removed_while_the_client_catches_up_is_not_sent(clock: TurnClock) -> None:
    hub = make_hub(clock)
    fill(hub, 1, 100, size=10_000)
    hub.publish(publication("b", "b-old"))
    turns(clock)
    socket = behind(hub, ["c0", "b"])
    hub.unsubscribe(next(iter(hub.clients)), ["b"])
    socket.read(None)
    turns(clock)
    assert data_of(socket) == [*map(str, range(100))]


def test_what_is_missed_of_an_added_channel_comes_to_a_client_that_reads_slowly(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    numbers = [*map(str, range(100))]
    for number in numbers:
        hub.publish(publication("b", f"b{number} {'x' * 400}"))
    turns(clock)
    socket = FakeSocket(room=1000)
    client = socket_client(socket, limit=60_000)
    hub.subscribe(client, ["a"])
    client.open()
    for number in numbers:
        if number == "50":
            hub.subscribe(client, ["b"], before)
        hub.publish(publication("a", f"a{number} {'x' * 400}"))
        turns(clock)
    socket.read(None)
    turns(clock)
    received = data_of(socket)
    for name in "ab":
        assert [each for each in received if each[0] == name] == [name + number for number in numbers]


def test_the_past_of_an_added_pattern_is_sent(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    for number in range(3):
        hub.publish(publication(f"news.{number}", str(number)))
    turns(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.subscribe(client, ["news.*"], before)
    turns(clock)
    hub.publish(publication("news.3", "3"))
    turns(clock)
    assert client.data == ["0", "1", "2", "3"]


def test_an_added_pattern_misses_nothing_of_what_waits_to_be_sent(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex(), history_size=10_000)
    before = hub.position()
    client = Recorder()
    hub.subscribe(client, ["a"])
    for number in range(NAMES):  # as many as are read at once
        hub.publish(publication("news.1", str(number)))
    turns(clock)
    hub.publish(publication(["a", "news.2"], "both"))
    hub.publish(publication("news.3", "last"))
    hub.subscribe(client, ["news.*"], before)
    turns(clock)
    assert client.data == [*map(str, range(NAMES)), "both", "last"]


def test_a_channel_that_is_added_while_a_walk_is_under_way_receives_its_event_once(
    clock: TurnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "PAIRS", 2)
    hub = make_hub(clock)
    for _ in range(3):
        hub.subscribe(Recorder(), ["crowd"])
    client = Recorder()
    hub.subscribe(client, ["other"])
    before = hub.position()
    for name in ("crowd", "late", "later"):
        hub.publish(publication(name, name))
    clock.turn()
    for name in ("late", "later"):
        hub.subscribe(client, [name], before)
    turns(clock)
    assert client.data == ["late", "later"]


def test_an_event_that_is_being_spread_comes_after_the_past_of_an_added_channel(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=10_000)
    client = Recorder()
    hub.subscribe(client, ["other"])
    before = hub.position()
    numbers = [*map(str, range(2 * BATCH_EVENTS))]
    for number in numbers:
        hub.publish(publication("a", number))
    turns(clock)
    hub.publish(publication(["a", *(f"c{number}" for number in range(3 * MANY))], "wide"))
    clock.turn()
    hub.subscribe(client, ["a"], before)
    turns(clock)
    assert client.data == [*numbers, "wide"]


def test_an_event_that_is_not_kept_comes_to_a_client_that_has_just_added_a_channel(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    hub.publish(publication("b", "missed"))
    turns(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.publish(publication("a", "not kept", ttl=0))
    hub.subscribe(client, ["b"], before)
    turns(clock)
    assert client.data == ["missed", "not kept"]


def test_a_client_that_gives_up_all_its_channels_while_it_catches_up_may_have_others(
    clock: TurnClock,
) -> None:
    hub = make_hub(clock)
    fill(hub, 1, 100, size=10_000)
    turns(clock)
    socket = behind(hub, ["c0"])
    (client,) = hub.clients
    hub.unsubscribe(client)
    hub.subscribe(client, ["b"])
    hub.publish(publication("b", "b-new"))
    socket.read(None)
    turns(clock)
    hub.publish(publication("b", "b-later"))
    turns(clock)
    assert data_of(socket)[-2:] == ["b-new", "b-later"]
    assert client.ending is None


@pytest.mark.parametrize("catches_up", [True, False])
def test_a_channel_that_is_added_when_ids_restart_gets_each_new_event_once(
    clock: TurnClock, catches_up: bool
) -> None:
    hub = make_hub(clock)
    before = hub.position()
    fill(hub, 1, 100, size=10_000)
    turns(clock)
    socket = behind(hub, ["c0"])
    (client,) = hub.clients
    if not catches_up:
        socket.read(None)
    hub.reset_ids("new", hub.ids.last + (1 << 60))
    hub.subscribe(client, ["b"], before)
    for number in range(3):
        hub.publish(publication("b", f"new{number}"))
    turns(clock)
    socket.read(None)
    turns(clock)
    hub.publish(publication("b", "new3"))
    turns(clock)
    assert client.ending is None
    assert [each for each in data_of(socket) if each.startswith("new")] == [f"new{n}" for n in range(4)]
    assert b'{"channels": ["b", "c0"]}' in socket.received


def test_a_gap_of_an_added_channel_moves_the_id_beyond_no_event_that_is_on_its_way(clock: TurnClock) -> None:
    hub = make_hub(clock)
    client = Recorder()
    hub.subscribe(client, ["b"])
    event = hub.publish(publication("b", "on its way"))
    hub.subscribe(client, ["a"], "1-0-other")
    ids = [line[4:].decode() for line in b"".join(client.got).splitlines() if line.startswith(b"id: ")]
    (told,) = map(EventId.parse, ids)
    assert told is not None
    assert told.seq < event.seq
    turns(clock)
    assert client.data == ['{"channels": ["a"]}', "on its way"]
