"""States and the stream that follows them: no seam, and what survives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from cyclone_sse.delivery.batch import BATCH_EVENTS
from cyclone_sse.delivery.events import Event, EventId, EventIds
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import publication
from cyclone_sse.delivery.states import STATES_AT_ONCE
from cyclone_sse.delivery.views import View
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import MANY
from tests.harness.eventstream import Parser
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns, with_state
from tests.unit.fakes import FakeSocket, TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def joined(events: Sequence[Event]) -> bytes:
    """The events as they are, as an application with its own `sendEvent` may write them."""
    return b"".join([event.frame for event in events])


def last_id(client: Recorder) -> str:
    parser = Parser()
    parser.feed(b"".join(client.got))
    return parser.last_id


def test_a_client_without_an_id_gets_the_states_the_position_and_then_what_comes(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=1)
    hub.publish(publication("b", "old b", keep=True))
    first = hub.publish(publication("a", "state a", keep=True))
    hub.publish(publication(["b", "c"], "state b", keep=True))
    for number in range(3):
        hub.publish(publication("a", str(number)))
    client = with_state()
    hub.subscribe(client, ["a", "b", "none"])
    assert client.data == ["state a", "state b"]
    assert str(first.id).encode() in client.got[0]
    position = last_id(client)
    hub.publish(publication("a", "live"))
    turns(clock)
    assert client.data == ["state a", "state b", "live"]
    back = with_state()
    hub.subscribe(back, ["a", "b"], position)
    assert back.data == ["live"]


def test_a_stream_without_states_is_sent_the_position(clock: TurnClock) -> None:
    hub = make_hub(clock)
    client = with_state()
    hub.subscribe(client, ["a"])
    assert (client.data, last_id(client)) == ([], str(hub.position()))


def test_a_poll_without_states_is_answered_with_the_position(clock: TurnClock) -> None:
    hub = make_hub(clock)
    answers: list[bytes] = []
    poll = PollClient(lambda: None, answers.append, lambda: None)
    poll.wants_state = True
    hub.subscribe(poll, ["a"])
    poll.open()
    assert answers == [f"id: {hub.position()}\n\n".encode()]


def test_a_state_stays_whatever_the_history_forgets(clock: TurnClock) -> None:
    hub = make_hub(clock, history_ttl=10)
    hub.publish(publication("a", "state", keep=True, ttl=0))
    clock.advance(100)
    hub.history.forget_old(clock.seconds())
    client = with_state()
    hub.subscribe(client, ["a"])
    assert client.data == ["state"]


def test_the_states_follow_a_gap_without_doubling_what_is_held(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=2)
    before = hub.position()
    hub.publish(publication("a", "state a", keep=True))
    for number in range(5):
        hub.publish(publication("a", str(number)))
    hub.publish(publication("b", "state b", keep=True))
    client = with_state()
    hub.subscribe(client, ["a", "b"], before)
    assert client.data == ['{"channels": ["a"]}', "state a", "3", "4", "state b"]
    hub.publish(publication("a", "new", keep=True))
    turns(clock)
    late = with_state()
    hub.subscribe(late, ["a"], before)
    assert late.data == ['{"channels": ["a"]}', "4", "new"]
    ahead = Recorder()
    hub.subscribe(ahead, ["a"], last_id(late))
    assert ahead.got == []


def test_after_a_gap_the_client_that_made_the_state_is_sent_it_too(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=2)
    before = hub.position()
    for number in range(3):
        hub.publish(publication("a", str(number)))
    hub.publish(publication("a", "its own", keep=True, excluded="tab"))
    client = with_state()
    client.client_id = "tab"
    hub.subscribe(client, ["a"], before)
    assert client.data == ['{"channels": ["a"]}', "its own", "2"], (
        "as when it opens: it has forgotten the rest"
    )
    again = with_state()
    again.client_id = "tab"
    hub.subscribe(again, ["a"], last_id(client))
    assert again.data == []


def test_a_state_that_is_being_spread_is_not_doubled_behind_a_gap(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=2)
    before = hub.position()
    names = [f"user-{number}" for number in range(3 * MANY)]
    for number in range(3):
        hub.publish(publication(names[-1], str(number)))
    turns(clock)
    done = hub.publish_all([publication(names, "all", keep=True)])
    while not done.called:  # type: ignore[union-attr]
        client = with_state()
        hub.subscribe(client, names[-1:], before)
        assert client.data[-1:] == ["all"] or hub.states.get(names[-1]) is None
        assert client.data.count("all") <= 1
        clock.turn()


def test_the_states_of_many_channels_are_found_in_as_many_steps_as_there_are(
    clock: TurnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(clock, history_size=1)
    names = [f"room-{number}" for number in range(200)]
    before = hub.position()
    for message in ("state", "1", "2"):
        for name in names:
            hub.publish(publication(name, message, keep=message == "state"))
    looked_up, place = [0], View.place

    def count(view: View, event: Event) -> int | None:
        looked_up[0] += 1
        return place(view, event)

    monkeypatch.setattr(View, "place", count)
    client = with_state()
    hub.subscribe(client, names, before)
    assert client.data.count("state") == len(names)
    assert looked_up[0] <= 10 * len(names)


def test_after_a_gap_with_nothing_to_follow_the_client_has_the_position(clock: TurnClock) -> None:
    hub = make_hub(clock, history_ttl=10)
    before = hub.position()
    hub.publish(publication("a", "state", keep=True))
    clock.advance(20)
    client = with_state()
    hub.subscribe(client, ["a"], before)
    assert client.data == ['{"channels": ["a"]}', "state"]
    again = with_state()
    hub.subscribe(again, ["a"], last_id(client))
    assert again.data == []


def test_clients_of_a_gap_live_get_the_states(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    hub.set_complete(["a"])
    client = with_state()
    hub.subscribe(client, ["a"])
    hub.publish(publication("a", "state", keep=True))
    hub.send_gap(["a"])
    turns(clock)
    assert client.data == ["state", '{"channels": ["a"]}', "state"]


def test_the_states_after_a_gap_bring_no_id_of_an_event_that_is_sent_later(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    hub.set_complete(["a", "b"])
    hub.publish(publication("a", "old", keep=True))
    hub.publish(publication("b", "state", keep=True))
    turns(clock)
    client = with_state()
    hub.subscribe(client, ["a", "b"])
    client.got.clear()
    hub.send_gap(["a", "b"])
    hub.publish(publication("a", "new", keep=True))
    while not client.got:
        clock.turn()
    again = Recorder()
    hub.subscribe(again, ["a", "b"], last_id(client))
    turns(clock)
    assert client.data == ['{"channels": ["a", "b"]}', "state", "new"]
    assert again.data == ["new"]


def assert_each_once(hub: Hub, received: str, channels: list[str], start: str, events: list[str]) -> None:
    """Wherever a stream breaks, the client receives each of these events once, before or after it."""
    blocks = received.removesuffix("\n\n").split("\n\n")
    for cut in range(len(blocks) + 1):
        lines = [line for block in blocks[:cut] for line in block.split("\n")]
        ids = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
        again = with_state()
        hub.subscribe(again, channels, (ids or [start])[-1])
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")] + again.data
        assert [data.count(event) for event in events] == [1] * len(events), (cut, data)


@pytest.mark.parametrize("how", [{}, {"fields": True}, {"render": joined, "shares_frames": False}])
def test_a_break_among_the_states_after_a_gap_loses_and_doubles_no_event(
    clock: TurnClock, how: dict[str, object]
) -> None:
    hub = make_hub(clock, history_size=2)
    start = hub.position()
    hub.publish(publication(["b", "id: x"], "e1"))
    hub.publish(publication("a", "state", keep=True))
    for number in range(2):
        hub.publish(publication("a", f"new {number}"))
    client = with_state(**how)
    hub.subscribe(client, ["a", "b", "id: x"], start)
    assert client.data == ['{"channels": ["a"]}', "state", "e1", "new 0", "new 1"]
    received = b"".join(client.got).decode()
    assert_each_once(hub, received, ["a", "b"], start, ["e1", "new 0", "new 1"])


def test_a_break_among_the_states_after_a_gap_of_a_live_client_doubles_no_event(clock: TurnClock) -> None:
    hub = make_hub(clock)
    hub.publish(publication("a", "state", keep=True))
    client, start = with_state(), hub.position()
    hub.subscribe(client, ["a"])
    for number in range(3):
        hub.publish(publication("a", str(number)))
    turns(clock)
    hub.send_gap(["a"])
    turns(clock)
    assert client.data == ["state", "0", "1", "2", '{"channels": ["a"]}', "state"]
    assert_each_once(hub, b"".join(client.got).decode(), ["a"], start, ["0", "1", "2"])


def test_the_states_after_a_gap_that_is_dropped_leave_no_position_behind(clock: TurnClock) -> None:
    hub = make_hub(clock)
    hub.publish(publication("a", "state", keep=True))
    turns(clock)
    socket, start = FakeSocket(), hub.position()
    client = socket_client(socket, limit=3000)
    client.wants_state = True
    hub.subscribe(client, ["a"])
    client.open()
    socket.room = 0
    for name in ("partly", "e1", "e2"):
        hub.publish(publication("a", name))
        turns(clock)
    hub.send_gap(["a"])
    turns(clock)
    for _ in range(4):
        hub.publish(publication("a", "x" * 900))
        turns(clock)
    while socket.producer is not None:
        socket.read(10_000)
        turns(clock)
    received = bytes(socket.received).decode().lstrip()
    assert received.count("sse-gap") == 1
    assert_each_once(hub, received, ["a"], start, ["partly", "e1", "e2"])


def test_a_gap_brings_the_states_of_a_stream_that_is_lost(clock: TurnClock) -> None:
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("former", 1)
    turns(clock)
    hub.publish(publication("a", "kept", keep=True), EventId.of(43, 0, "former"))
    turns(clock)
    live = with_state()
    hub.subscribe(live, ["a"])
    hub.reset_ids("new", 1)  # only the stream was deleted: its states are beside it
    hub.publishing.restore_state("a", publication("a", "kept"), EventId.of(43, 0, "new"), is_lost=True)
    turns(clock)
    assert live.data == ["kept", '{"channels": ["a"]}', "kept"]
    back = with_state()
    hub.subscribe(back, ["a"], "43-0-former")
    turns(clock)
    assert back.data == ['{"channels": ["a"]}', "kept"]
    for client in (live, back):
        assert b"id: 43-0-new" not in b"".join(client.got), "events before it may still come"
        assert last_id(client) == "0-1-new"


def test_with_fields_a_state_names_its_channels(clock: TurnClock) -> None:
    hub = make_hub(clock)
    hub.publish(publication(["a", "b"], "x", keep=True))
    client = with_state(fields=True)
    hub.subscribe(client, ["b", "c"])
    assert b"channel: b\n" in client.got[0]
    assert b"channel: a\n" not in client.got[0]


@pytest.mark.parametrize("resumes", [False, True])
def test_with_fields_a_state_names_the_channels_whose_state_it_still_is(
    clock: TurnClock, resumes: bool
) -> None:
    hub = make_hub(clock)
    before = hub.position()
    hub.publish(publication(["a", "b", "c"], "all", keep=True, ttl=0))
    hub.publish(publication("b", "new", keep=True, ttl=0))
    hub.states.clear("a")
    client = with_state(fields=True)
    hub.subscribe(client, ["a", "b", "c"], before if resumes else None)
    lines = b"".join(client.got).decode().splitlines()
    assert [line for line in lines if line.startswith(("channel", "data"))] == [
        *("channel: c", "data: all"),
        *("channel: b", "data: new"),
    ]


def test_a_poll_is_answered_with_the_states(clock: TurnClock) -> None:
    hub = make_hub(clock)
    hub.publish(publication("a", "state", keep=True))
    answers: list[bytes] = []
    poll = PollClient(lambda: None, answers.append, lambda: None)
    poll.wants_state = True
    hub.subscribe(poll, ["a"])
    poll.open()
    assert b"data: state\n" in answers[0]


def test_what_does_not_fit_is_refused_and_nothing_of_it_published(clock: TurnClock) -> None:
    hub = make_hub(clock, state_bytes=2000)
    with pytest.raises(Refusal) as refused:
        hub.publish_all([publication("a", "first"), publication("a", "x" * 3000, keep=True)])
    assert refused.value.status == 507
    assert hub.counters.events == 0
    hub.publish(publication("a", "small", keep=True))


def test_a_channel_that_is_cleared_has_neither_state_nor_past(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    for channel in "ab":
        hub.publish(publication(channel, "state", keep=True))
    hub.publishing.clear(["a"])
    client, other = with_state(), with_state()
    hub.subscribe(client, ["a"], before)
    hub.subscribe(other, ["b"], before)
    assert client.data == ['{"channels": ["a"]}']
    assert other.data == ["state"]
    hub.publish(publication("a", "new"))
    turns(clock)
    assert client.data[1:] == ["new"]


steps = st.lists(st.sampled_from(["publish", "keep", "join", "read", "turn"]), max_size=60)


@settings(max_examples=60)
@given(steps, st.integers(0, 5))
def test_nothing_is_lost_or_doubled_between_state_and_stream(script: list[str], history: int) -> None:
    """Each message is a number, and the state is the last that was kept: clients see consecutive numbers."""
    clock = TurnClock()
    hub = make_hub(clock, history_size=history)
    number, state = 0, 0
    clients: list[tuple[FakeSocket, int, int]] = []  # its socket, the state when it came, the last before
    rng = random.Random(len(script))
    for step in script:
        if step in ("publish", "keep"):
            number += 1
            hub.publish(publication("a", str(number), keep=step == "keep"))
            state = number if step == "keep" else state
        elif step == "join":
            socket = FakeSocket(rng.choice([None, 500]))
            client = socket_client(socket)
            client.wants_state = True
            hub.subscribe(client, ["a"])
            client.open()
            clients.append((socket, state, number))
        elif step == "turn":
            clock.turn()
        else:
            for socket, *_ in clients:
                socket.read(1000)
    turns(clock)
    for socket, first, before in clients:
        socket.read(None)
        turns(clock)
        lines = bytes(socket.received).decode().splitlines()
        got = [int(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert got == [*([first] if first else []), *range(before + 1, number + 1)]


def test_batches_at_once_stay_within_the_bound_and_what_exceeds_it_is_refused(clock: TurnClock) -> None:
    hub = make_hub(clock, state_bytes=500_000)
    ids: list[Sequence[str]] = []
    refused: list[int] = []

    def publish(name: str, count: int) -> None:
        batch = [publication(f"{name}-{number}", "x" * 100, keep=True) for number in range(count)]
        done = hub.publish_all(batch)
        assert isinstance(done, Deferred), "also a short one, behind a long one"
        done.addCallbacks(ids.append, lambda failure: refused.append(failure.value.status))

    for name, count in (("a", 500), ("b", 500), ("c", 150)):
        publish(name, count)
    while len(ids) + len(refused) < 3:
        clock.turn()
        assert hub.states.bytes <= 500_000
    assert [len(each) for each in ids] == [500]
    assert refused == [507, 507]
    assert len(hub.states) == hub.counters.events == 500, "nothing of what is refused was published"


def test_a_state_of_very_many_channels_has_no_seam_while_it_is_set(clock: TurnClock) -> None:
    hub = make_hub(clock)
    names = [f"user-{number}" for number in range(5 * STATES_AT_ONCE)]
    set_in_turn = [0]
    set_one = hub.states._set

    def count(name: str, event: Event) -> None:
        set_in_turn[-1] += 1
        set_one(name, event)

    hub.states._set = count  # type: ignore[method-assign]
    done = hub.publish_all([publication(names, "all", keep=True)])
    clients = []
    while not done.called:  # type: ignore[union-attr]
        client = with_state()
        hub.subscribe(client, [names[-1]])
        clients.append(client)
        set_in_turn.append(0)
        clock.turn()
    turns(clock)
    assert [client.data for client in clients] == [["all"]] * len(clients)
    assert sum(set_in_turn) == len(names)
    assert max(set_in_turn) <= STATES_AT_ONCE


def test_a_batch_of_many_channels_is_published_in_slices(clock: TurnClock) -> None:
    hub = make_hub(clock)
    names = [[f"{event}-{number}" for number in range(MANY // 2)] for event in range(20)]
    done = hub.publish_all([publication(each, "x") for each in names])
    held = [0]
    while not done.called:  # type: ignore[union-attr]
        clock.turn()
        held.append(hub.history.figures().channels)
    assert held[-1] == 10 * MANY
    assert max(after - before for before, after in pairwise(held)) <= MANY


def test_a_client_that_resumes_is_sent_the_state_whose_ttl_is_over(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    hub.publish(publication("a", "1"))
    hub.publish(publication(["a", "b"], "state", keep=True, ttl=0))
    hub.publish(publication("b", "2"))
    turns(clock)
    client, plain = with_state(), Recorder()
    for each in (client, plain):
        hub.subscribe(each, ["a", "b"], before)
    assert client.data == ["1", "state", "2"], "in its place, so that a break behind it loses nothing"
    assert plain.data == ["1", "2"]
    again = with_state()
    hub.subscribe(again, ["a", "b"], last_id(client))
    assert again.got == []
    own = with_state()
    own.client_id = "tab"
    hub.publish(publication("a", "own", keep=True, ttl=0, excluded="tab"))
    hub.subscribe(own, ["a"], last_id(client))
    assert own.got == []


def test_states_whose_ttl_is_over_come_once_to_a_client_that_catches_up(clock: TurnClock) -> None:
    hub = make_hub(clock, history_size=2 * BATCH_EVENTS)
    before = hub.position()
    for number in range(3 * BATCH_EVENTS):
        hub.publish(publication("a", str(number)))
        if number == BATCH_EVENTS:
            hub.publish(publication("b", "early", keep=True, ttl=0))
            hub.publish(publication("a", "of a channel with a gap", keep=True, ttl=0))
    hub.publish(publication("b", "late", keep=True, ttl=0))
    hub.publish(publication("c", "other", keep=True, ttl=0))
    client = with_state()
    hub.subscribe(client, ["a", "b", "c"], before)
    turns(clock)
    numbers = list(map(str, range(BATCH_EVENTS, 3 * BATCH_EVENTS)))
    gap = '{"channels": ["a"]}'
    assert client.data == [gap, "of a channel with a gap", *numbers, "late", "other"]
