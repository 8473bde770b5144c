"""The hub: who receives what, which counters change, and what it costs."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.publication import publication
from cyclone_sse.delivery.rising_floors import FLOORS_AT_ONCE
from cyclone_sse.errors import Ending
from cyclone_sse.slices import MANY
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def gaps(client: Recorder) -> list[list[str]]:
    return [json.loads(data)["channels"] for data in client.data if data.startswith('{"channels"')]


def test_the_first_and_the_last_of_a_channel_are_said(clock: TurnClock) -> None:
    hub = make_hub(clock)
    first, second = Recorder(), Recorder()
    assert hub.subscribe(first, ["a", "b"]) == ["a", "b"]
    assert hub.subscribe(second, ["b", "c"]) == ["c"]
    assert hub.unsubscribe(first) == ["a"]
    assert hub.unsubscribe(first) == []
    assert hub.unsubscribe(second, ["c"]) == ["c"]
    assert hub.stats() == [("b", 1)]


def test_a_client_may_take_further_channels_while_it_listens(clock: TurnClock) -> None:
    hub = make_hub(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.publish(publication("b", "before"))
    turns(clock)
    hub.subscribe(client, ["b"])
    hub.publish(publication(["a", "b"], "after"))
    turns(clock)
    assert client.data == ["after"]


def test_a_gap_is_told_to_those_it_concerns_and_after_what_was_published(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    one, both, other = Recorder(), Recorder(), Recorder()
    for client, channels in ((one, ["a"]), (both, ["a", "b"]), (other, ["c"])):
        hub.subscribe(client, channels)
    before = hub.position()
    hub.publish(publication("a", "x"))
    hub.send_gap(["a", "b"])
    turns(clock)
    assert one.data[0] == both.data[0] == "x"
    assert (gaps(one), gaps(both), gaps(other)) == ([["a"]], [["a", "b"]], [])
    late = Recorder()
    hub.subscribe(late, ["b"], before)
    assert gaps(late) == [["b"]], "a client that was away receives the gap too"
    assert b"id: " in late.got[-1]


def test_a_client_that_resumes_while_a_gap_is_noted_is_told(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    channels = [f"c{number}" for number in range(3 * FLOORS_AT_ONCE)]
    hub.set_complete(channels)
    before = hub.position()
    hub.send_gap(channels)
    back: list[tuple[str, Recorder]] = []
    while clock.getDelayedCalls():
        clock.turn()
        for channel in channels[:: FLOORS_AT_ONCE // 2]:
            client = Recorder()
            hub.subscribe(client, [channel], before)
            back.append((channel, client))
    assert len(back) > 6
    assert all(gaps(client) == [[channel]] for channel, client in back)


def test_a_client_that_was_told_of_a_gap_is_not_told_again(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    channels = [f"c{number}" for number in range(3 * FLOORS_AT_ONCE)]
    hub.set_complete(channels)
    hub.send_gap(channels)
    event = hub.publish(publication("c0", "live"))
    for id in (str(event.id), hub.position()):
        client = Recorder()
        hub.subscribe(client, ["c0", "c1"], id)
        turns(clock)
        assert gaps(client) == []


def test_the_gap_of_very_many_channels_is_noted_in_several_turns(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    hub.send_gap(f"c{number}" for number in range(3 * FLOORS_AT_ONCE))
    noted = [hub.history.figures().floors]
    while noted[-1] < 3 * FLOORS_AT_ONCE:
        clock.turn()
        noted.append(hub.history.figures().floors)
    assert noted == [number * FLOORS_AT_ONCE for number in (0, 1, 2, 3)]


def test_a_gap_told_moves_the_id_behind_nothing(clock: TurnClock) -> None:
    hub = make_hub(clock, complete=False)
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.send_gap(["a"])
    event = hub.publish(publication("a", "x"))
    turns(clock)
    ids = [line for line in b"".join(client.got).splitlines() if line.startswith(b"id: ")]
    told, after = (EventId.parse(line[4:].decode()) for line in ids)
    assert told is not None
    assert after == event.id
    assert told.seq < event.seq


def test_a_gap_that_a_slow_client_is_sent_later_does_not_count_as_an_event(clock: TurnClock) -> None:
    hub = make_hub(clock)
    socket = FakeSocket(room=0)
    client = socket_client(socket, limit=1000)
    hub.subscribe(client, ["a"])
    client.open()
    hub.publish(publication("a", "x" * 500))
    hub.send_gap(["a"])
    hub.publish(publication("a", "y" * 500))
    turns(clock)
    socket.read(None)
    turns(clock)
    assert socket.received.count(b"event: sse-gap\n") == 1
    assert hub.counters.deliveries == socket.received.count(b"data: ") - 1 == 2


def test_after_a_lost_stream_all_clients_continue_with_new_ids(
    clock: TurnClock,
) -> None:
    hub = make_hub(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    old = hub.publish(publication("a", "old"))
    hub.reset_ids("other", EventId.of(5, 0, "other").seq)
    hub.publish(publication("a", "new"), EventId.of(6, 0, "other"))
    turns(clock)
    assert [data for data in client.data if not data.startswith("{")] == ["old", "new"]
    assert gaps(client) == [["a"]]
    back = Recorder()
    hub.subscribe(back, ["a"], str(old.id))
    assert gaps(back) == [["a"]]
    assert "new" in back.data


def test_streams_end_by_channel_by_user_or_all_with_a_farewell(clock: TurnClock) -> None:
    hub = make_hub(clock)
    clients = []
    for channel, user in (("a", "1"), ("b", "1"), ("a", "2"), ("c", None)):
        client = Recorder()
        client.user = user
        hub.subscribe(client, [channel])
        clients.append(client)
    assert hub.end(Ending.ENDED, ["a"]) == 2
    turns(clock)
    assert [client.ending for client in clients] == [Ending.ENDED, None, Ending.ENDED, None]
    assert hub.end(Ending.ENDED, user="1") == 2
    turns(clock)
    assert clients[1].ending is Ending.ENDED
    assert hub.end(Ending.DRAINED, farewell=lambda: b"retry: 5000\n\n") == 4
    turns(clock)
    assert clients[3].ending is Ending.DRAINED
    assert clients[3].got == [b"retry: 5000\n\n"]


def test_the_history_is_tidied_once_in_a_turn_and_then_rests(clock: TurnClock) -> None:
    hub = make_hub(clock, history_ttl=10, history_size=10_000)
    hub.start()
    for number in range(5 * MANY):
        hub.publish(publication(f"user-{number}", "x"))
    turns(clock)
    clock.rightNow += 20
    for _ in range(3):
        hub._forget_old()  # as in three seconds that are late
    assert sum(call.func == hub._forget_some for call in clock.calls) == 1
    turns(clock)
    assert hub.history.events == 0


def test_a_clear_in_slices_ends_when_ids_are_reset(clock: TurnClock) -> None:
    hub = make_hub(clock)
    names = [f"user-{number}" for number in range(3 * MANY)]
    hub.publishing.clear(names)
    hub.reset_ids("other", 1)
    hub.publish(publication(names[-1], "new", keep=True), EventId.of(5, 0, "other"))
    turns(clock)
    assert hub.states.get(names[-1]) is not None
    client = Recorder()
    hub.subscribe(client, names[-1:], "4-0-other")
    assert client.data == ["new"]


@pytest.mark.parametrize("by", ["channel", "user"])
def test_the_streams_to_end_are_found_in_slices(clock: TurnClock, by: str) -> None:
    hub = make_hub(clock)
    names = [f"user-{number}" for number in range(5 * MANY)]
    clients = [Recorder() for _ in names]
    for client, name in zip(clients, names, strict=True):
        client.user = "1"
        hub.subscribe(client, [name])
    other = Recorder()
    hub.subscribe(other, ["other"])
    order = {"channel": names} if by == "channel" else {"user": "1"}
    count = hub.end(Ending.ENDED, order.get("channel"), order.get("user"))  # type: ignore[arg-type]
    assert isinstance(count, Deferred)
    late = Recorder()
    late.user = "1"
    hub.subscribe(late, ["late"])
    taken = 0
    while not count.called:
        clock.turn()
        taken += 1
    assert taken >= 4, "of a thousand each"
    assert count.result == len(clients)
    turns(clock)
    assert {client.ending for client in clients} == {Ending.ENDED}
    assert (other.ending, late.ending) == (None, None)


def test_a_slow_end_is_spread_evenly(clock: TurnClock) -> None:
    hub = make_hub(clock)
    clients = [Recorder() for _ in range(500)]
    for client in clients:
        hub.subscribe(client, ["a"])
    hub.end(Ending.DRAINED, over=10.0)
    assert hub.lifecycle.figures().endings
    for second in range(1, 11):
        for _ in range(20):
            clock.advance(0.05)
            turns(clock)
        ended = sum(client.ending is not None for client in clients)
        assert abs(ended - 50 * second) <= 10
    assert ended == 500
    assert not hub.lifecycle.figures().endings


def test_what_is_published_during_a_slow_end_reaches_those_who_are_left(clock: TurnClock) -> None:
    hub = make_hub(clock)
    clients = [Recorder() for _ in range(10)]
    for client in clients:
        hub.subscribe(client, ["a"])
    hub.end(Ending.DRAINED, over=1.0)
    clock.advance(0.5)
    turns(clock)
    hub.publish(publication("a", "x"))
    turns(clock)
    assert {client.data == ["x"] for client in clients if client.ending is None} == {True}


def test_one_task_that_fails_takes_none_of_the_others_with_it(
    clock: TurnClock, failures: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(clock, ping_interval=1.0)

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hub, "_forget_old", fail)
    fail.__name__ = "_forget_old"
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.start()
    for _ in range(30):
        clock.advance(0.1)
        turns(clock)
    assert b"".join(client.got).count(b": sse ping") >= 2
    assert failures


def grown(work: Callable[[], object]) -> int:
    """Bytes of memory at the peak of this work, more than before it."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_one_event_for_many_channels_takes_memory_for_each_channel_once(clock: TurnClock) -> None:
    costs = []
    for size in (2_000, 10_000):
        hub = make_hub(clock)
        names = [f"user-{number}" for number in range(size)]
        for name in names:
            hub.subscribe(Recorder(), [name])

        def work(hub: object = hub, names: object = names) -> None:
            hub.publish(publication(names, "x"))  # type: ignore[attr-defined, arg-type]
            turns(clock)

        costs.append(grown(work) / size)
    assert costs[1] < 1.5 * costs[0]
    assert costs[1] * 10_000 < 20e6


@pytest.mark.slow
def test_the_bytes_of_an_event_are_held_once_however_clients_combine_their_channels(clock: TurnClock) -> None:
    """5,000 clients with 5,000 different sets of channels receive a burst of 20 events, and none reads."""
    size = 10_000
    hub = make_hub(clock)
    clients = []
    for number in range(5_000):
        client = socket_client(FakeSocket(room=0), b"")
        channels = {f"group-{number % 17}", f"team-{number % 13}", f"user-{number}"}
        hub.subscribe(client, ["common", *channels])
        client.open()
        clients.append(client)

    def burst() -> None:
        for number in range(20):
            name = ["common", f"group-{number % 17}", f"team-{number % 13}"][number % 3]
            hub.publish(publication(name, "x" * size))
        turns(clock)

    used = grown(burst)
    waiting = sum(client._unsent for client in clients)
    assert waiting > 5_000 * 7 * size, "each of them has its events still to get"
    # One piece for each is in the transport's hands, as with any that does not read.
    in_transport = sum(client._in_transport for client in clients)
    assert used - in_transport < 5_000 * 2_000
