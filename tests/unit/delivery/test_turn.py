"""The events of one turn that are due to each client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery import turn as module
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.turn import Group, Turn
from tests.unit.delivery.clients import Recorder

names = st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4)
mostly_one = st.just({"a"}) | names


def groups(turn: Turn, registry: Channels[Client]) -> list[Group]:
    return [group for group in turn.groups(registry) if group is not None]


def made(channels: list[set[str]]) -> tuple[Turn, list[Event]]:
    turn = Turn(0.0)
    events = [Event(EventId.of(1, n, "x"), b"%d" % n, sorted(names)) for n, names in enumerate(channels)]
    for event in events:
        turn.events.append(event)
    return turn, events


@given(
    st.lists(st.tuples(mostly_one, st.booleans()), max_size=8),
    st.lists(st.just({"*"}) | mostly_one, max_size=12),
)
def test_each_client_is_in_one_group_with_all_it_is_due_in_order(
    published: list[tuple[set[str], bool]], listening: list[set[str]]
) -> None:
    registry: Channels[Client] = Channels()
    clients = []
    for channels in listening:
        client = Recorder()
        registry.add(client, sorted(channels))
        clients.append((client, channels))
    turn, events = made([channels for channels, _ in published])
    for event, (_, is_matched) in zip(events, published, strict=True):
        event.patterns = ("*",) if is_matched else ()
    due: dict[Client, list[Event]] = {}
    for group in groups(turn, registry) if published else []:
        for member in group.clients:
            assert member not in due, "a client is in one group"
            due[member] = list(group.batch.events)
    for client, channels in clients:
        expected = [event for event in events if channels & set(event.names)]
        assert due.get(client, []) == expected


def test_clients_that_hear_the_same_of_a_turn_share_its_bytes_whatever_else_they_listen_to() -> None:
    registry: Channels[Client] = Channels()
    for number in range(100):
        registry.add(Recorder(), ["common", f"own-{number}"])
    turn, _ = made([{"common"}, {"common"}, {"elsewhere"}])
    assert [len(group.clients) for group in groups(turn, registry)] == [100]


def test_one_event_for_many_channels_is_one_group() -> None:
    registry: Channels[Client] = Channels()
    for number in range(100):
        registry.add(Recorder(), [f"own-{number}"])
    turn, _ = made([{f"own-{number}" for number in range(100)}])
    assert [len(group.clients) for group in groups(turn, registry)] == [100]


def test_a_turn_of_very_many_pairs_is_done_in_slices() -> None:
    registry: Channels[Client] = Channels()
    channels = [str(number) for number in range(30)]
    for _ in range(module.PAIRS // 10):
        registry.add(Recorder(), channels)
    turn, _ = made([{channel} for channel in channels])
    assert sum(group is None for group in turn.groups(registry)) >= 2
