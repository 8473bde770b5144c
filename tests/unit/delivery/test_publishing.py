"""Publishing through the hub: batches, very many channels, and the fields of an event."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.publication import publication
from cyclone_sse.delivery.publishing import EVENTS_PER_TURN
from cyclone_sse.slices import MANY
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def test_an_event_that_is_for_those_who_are_there_is_not_held(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    client = Recorder()
    hub.subscribe(client, ["a"])
    hub.publish(publication("a", "typing", ttl=0))
    hub.publish(publication("a", "short", ttl=5))
    hub.publish(publication("a", "long"))
    turns(clock)
    assert client.data == ["typing", "short", "long"]
    back = Recorder()
    hub.subscribe(back, ["a"], before)
    assert back.data == ["short", "long"]
    clock.advance(6)
    late = Recorder()
    hub.subscribe(late, ["a"], before)
    assert late.data == ["long"], "and no gap"


def test_a_client_does_not_get_what_excludes_it(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    sender, other, fields = Recorder(), Recorder(), Recorder()
    sender.client_id, fields.client_id, fields.fields = "tab-1", "tab-1", True
    for client in (sender, other, fields):
        hub.subscribe(client, ["a"])
    hub.publish(publication("a", "mine", excluded="tab-1"))
    hub.publish(publication("a", "theirs", excluded="tab-2"))
    turns(clock)
    assert (sender.data, other.data, fields.data) == (["theirs"], ["mine", "theirs"], ["theirs"])
    back = Recorder()
    back.client_id = "tab-1"
    hub.subscribe(back, ["a"], before)
    assert back.data == ["theirs"]
    hub.publish(publication("b", "mine", excluded="tab-1"))
    alone = Recorder()
    alone.client_id = "tab-1"
    hub.subscribe(alone, ["b"], before)
    assert alone.got == []
    assert hub.counters.deliveries == 5


def test_kinds_of_channel_have_their_own_history(clock: TurnClock, tmp_path: Path) -> None:
    file = tmp_path / "channels.toml"
    file.write_text('["user-*"]\nhistory_size = 2\nhistory_ttl = 1000\n')
    hub = make_hub(clock, channels=str(file))
    before = hub.position()
    for number in range(4):
        hub.publish(publication(["user-1", "other"], str(number)))
    clock.advance(400)
    client = Recorder()
    hub.subscribe(client, ["user-1"], before)
    assert client.data == ['{"channels": ["user-1"]}', "2", "3"]
    file.write_text('["user-*"]\nhistory_size = 1\n')
    hub.reload_kinds()
    turns(clock)
    late = Recorder()
    hub.subscribe(late, ["user-1"], before)
    assert late.data == ['{"channels": ["user-1"]}']


def test_a_batch_is_published_in_slices_in_order(clock: TurnClock) -> None:
    hub = make_hub(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    done: list[object] = []
    accepted = hub.publish_all([publication("a", str(number)) for number in range(5 * EVENTS_PER_TURN)])
    assert isinstance(accepted, Deferred)
    accepted.addCallback(done.append)
    clock.turn()
    assert hub.counters.events == EVENTS_PER_TURN
    idle: list[object] = []
    hub.idle().addCallback(idle.append)
    turns(clock)
    assert client.data == [str(number) for number in range(5 * EVENTS_PER_TURN)]
    assert len(done[0]) == 5 * EVENTS_PER_TURN  # type: ignore[arg-type]
    assert idle == [None]


def test_an_event_of_very_many_channels_is_sent_in_slices_and_in_order(clock: TurnClock) -> None:
    hub = make_hub(clock)
    names = [f"user-{number}" for number in range(10 * MANY)]
    before = hub.position()
    clients = [Recorder() for _ in range(3)]
    for client, name in zip(clients, (names[0], names[5], names[-1]), strict=True):
        hub.subscribe(client, [name])
    hub.publish(publication(names, "all"))
    hub.publish(publication(names[-1], "after"))
    early = Recorder()
    hub.subscribe(early, [names[-1]], before)
    assert turns(clock) >= 10
    assert [client.data for client in clients] == [["all"], ["all"], ["all", "after"]]
    assert early.data == ["all", "after"], "as if every channel had it from the start"


def test_what_was_published_before_is_not_published_again(clock: TurnClock) -> None:
    hub = make_hub(clock, ids=EventIds(None))
    hub.reset_ids("shared", 1)
    client = Recorder()
    hub.subscribe(client, ["a"])
    for number in (1, 2, 1, 2, 3):
        hub.publish(publication("a", str(number)), EventId.of(number, 0, "shared"))
    turns(clock)
    assert client.data == ["1", "2", "3"]


def test_a_client_that_adds_its_channels_one_by_one_resumes_once(clock: TurnClock) -> None:
    hub = make_hub(clock)
    before = hub.position()
    for number, channel in enumerate("aba", 1):
        hub.publish(publication(channel, str(number)))
    socket = FakeSocket()
    client = socket_client(socket)
    for channel in "ab":
        hub.subscribe(client, [channel], before)
    client.open()
    hub.publish(publication("c", "4"))
    hub.subscribe(client, ["c"], before)
    turns(clock)
    lines = bytes(socket.received).decode().splitlines()
    assert [line for line in lines if line.startswith("data")] == [f"data: {n}" for n in (1, 2, 3, 4)]


def test_the_clients_of_very_many_channels_are_counted_in_slices(clock: TurnClock) -> None:
    hub = make_hub(clock)
    names = [f"user-{number}" for number in range(3 * MANY)]
    for channels in (names[:2], names[-1:], ["other"]):
        hub.subscribe(Recorder(), channels)
    work = hub.count_in_slices(names)
    for _ in range(3):
        next(work)
    with pytest.raises(StopIteration) as end:
        next(work)
    assert end.value.value == 2


def test_the_channels_of_an_event_are_compared_with_many_patterns_in_slices(clock: TurnClock) -> None:
    index = PatternIndex()
    hub = make_hub(clock, patterns=index)
    clients = [Recorder() for _ in range(1000)]
    for number, client in enumerate(clients):
        hub.subscribe(client, [f"*?{number}?*{'?' * 50}*"])
    compared = [0]
    find = index.matching

    def matching(channel: str) -> tuple[str, ...]:
        compared[-1] += index.cost_of(channel)
        return find(channel)

    index.matching = matching  # type: ignore[method-assign]
    hub.publish(publication([f"{number}-{'x' * 100}-" for number in range(1000, 1200)], "x"))
    hub.publish(publication("after", "y"))
    while any(call.getTime() <= clock.seconds() for call in clock.calls):
        compared.append(0)
        clock.turn()
    assert len(compared) > 3
    assert max(compared) <= MANY + index.cost
    assert clients[0].data == ["x"]
