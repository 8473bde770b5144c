"""What the members of a channel are sent about each other."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from cyclone_sse.delivery import presence_feed
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.presence import SILENCE
from cyclone_sse.delivery.presence_feed import SUSPENDED
from cyclone_sse.slices import Slices, finish
from tests.unit.delivery.clients import Recorder, make_hub, turns
from tests.unit.delivery.presence_model import PresenceModel
from tests.unit.fakes import TurnClock

KINDS = '["room-*"]\npresence = true\n'


class Servers:
    """Servers that share a broker which delivers at once."""

    def __init__(self, clock: TurnClock, kinds: Path, count: int = 1, **settings: Any) -> None:
        self.clock = clock
        self.hubs = [make_hub(clock, channels=str(kinds), **settings) for _ in range(count)]
        self.messages: list[Mapping[str, Any]] = []
        for hub in self.hubs:
            hub.presence.start(self._report, lambda: True)

    def _report(self, message: Mapping[str, Any]) -> Deferred[Any]:
        self.messages.append(message)
        for hub in self.hubs:
            hub.presence.receive(json.loads(json.dumps(message)))
        return succeed(None)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    path = tmp_path / "channels.toml"
    path.write_text(KINDS)
    return path


@pytest.fixture(scope="module")
def kinds_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same file for all examples of a test."""
    path = tmp_path_factory.mktemp("kinds") / "channels.toml"
    path.write_text(KINDS)
    return path


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def join(
    hub: Hub, user: str | None, *channels: str, info: str | None = None, presence: bool = True
) -> Recorder:
    client = Recorder()
    client.user, client.info, client.wants_presence = user, info, presence
    hub.subscribe(client, channels or ("room-1",))
    turns(hub._reactor)
    return client


def members(hub: Hub, channel: str) -> Any:
    """The answer to ``GET /presence``."""
    return json.loads(finish(hub.presence.members(channel)))


def heard(client: Recorder) -> list[dict[str, Any]]:
    assert b"\nid:" not in b"".join(client.got)
    assert b"".join(client.got).count(b"event: sse-presence\n") == len(client.data)
    return [json.loads(each) for each in client.data]


def test_the_whole_list_comes_first_and_then_what_changes(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    ann = join(hub, "42", info='{"name":"Ann"}')
    assert heard(ann) == [{"channel": "room-1", "members": {"42": {"name": "Ann"}}, "anonymous": 0}]
    servers.wait(2)
    bob, stranger = join(hub, "43"), join(hub, None, presence=False)
    servers.wait(1.5)
    last = {"channel": "room-1", "joined": {"43": {}}, "left": [], "anonymous": 1}
    assert heard(ann)[-1] == heard(bob)[-1] == last
    hub.unsubscribe(bob)
    hub.unsubscribe(stranger)
    servers.wait(13)
    assert heard(ann)[-1] == {"channel": "room-1", "joined": {}, "left": ["43"], "anonymous": 0}
    assert stranger.got == []


def test_a_client_that_leaves_one_of_its_channels_is_no_member_of_that_one(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    client, other = join(hub, "42", "room-1", "room-2", "news"), join(hub, "43")
    servers.wait(2)
    hub.unsubscribe(client, ["room-1", "unknown"])
    sent = len(client.got)
    servers.wait(15)
    assert heard(other)[-1]["left"] == ["42"]
    assert len(client.got) == sent, "it is sent nothing of the channel that it has left"
    assert [list(members(hub, name)["members"]) for name in ("room-1", "room-2")] == [["43"], ["42"]]
    hub.subscribe(client, ["room-1"])
    hub.unsubscribe(client)
    servers.wait(15)
    assert [list(members(hub, name)["members"]) for name in ("room-1", "room-2")] == [["43"], []]
    assert hub.presence._joined.keys() == {other}


def test_a_client_that_leaves_a_channel_at_once_is_not_sent_its_members(
    clock: TurnClock, kinds: Path
) -> None:
    (hub,) = Servers(clock, kinds).hubs
    client = Recorder()
    client.user, client.wants_presence = "42", True
    hub.subscribe(client, ["room-1", "room-2"])
    hub.unsubscribe(client, ["room-1"])
    turns(clock)
    assert [each["channel"] for each in heard(client)] == ["room-2"]


def test_a_list_that_cannot_be_made_leaves_the_other_newcomers_theirs(
    clock: TurnClock, kinds: Path, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub,) = Servers(clock, kinds).hubs
    make = presence_feed._frame

    def fail_for_room_2(channel: str, *arguments: Any) -> bytes:
        assert channel != "room-2"
        return make(channel, *arguments)

    monkeypatch.setattr(presence_feed, "_frame", fail_for_room_2)
    clients = [Recorder() for _ in range(4)]
    for number, client in enumerate(clients):
        client.user, client.wants_presence = "42", True
        hub.subscribe(client, [f"room-{number % 3 + 1}"])
    turns(clock)
    assert ['"members"' in "".join(client.data) for client in clients] == [True, False, True, True]
    late = join(hub, "42", "room-3")
    assert '"members"' in "".join(late.data)
    assert failures


def test_other_channels_and_patterns_have_no_presence(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    client = join(servers.hubs[0], "42", "news", "room-*")
    servers.wait(3)
    assert client.got == []


def test_servers_agree(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, count=2)
    one, two = servers.hubs
    ann, bob = join(one, "42"), join(two, "43")
    servers.wait(2)
    assert heard(ann)[-1]["joined"] == {"43": {}}
    assert heard(bob)[-1]["joined"] == {"42": {}}
    assert members(one, "room-1")["members"].keys() == {"42", "43"}
    one.presence.stop()
    one.unsubscribe(ann)
    join(two, "42")
    servers.wait(15)
    assert not any("42" in each.get("left", ()) for each in heard(bob))


def test_the_members_of_another_server_are_applied_in_several_turns(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    for user in range(1000):
        join(servers.hubs[0], str(user), presence=False)
    servers.wait(1)
    servers.messages.clear()
    servers.hubs[0].presence.receive({"server": "new", "ask": None})
    servers.wait(1)
    new = make_hub(clock, channels=str(kinds))
    for message in servers.messages:
        new.presence.receive(message)
    assert len(members(new, "room-1")["members"]) < 500
    turns(clock)
    assert len(members(new, "room-1")["members"]) == 1000


def test_a_server_that_was_suspended_drops_no_members_of_others(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    hub.presence.receive({"server": "other", "seq": 1, "changes": [["room-1", "zoe", 1, 0.0, 0.0, None]]})
    servers.wait(1)
    clock.advance(2 * SILENCE)  # what the other server has sent meanwhile is read after the timers
    turns(clock)
    assert list(members(hub, "room-1")["members"]) == ["zoe"]
    servers.wait(SILENCE + 1)  # it really is silent
    assert members(hub, "room-1")["members"] == {}


def long_work(clock: TurnClock, seconds: float, slice: float = 0.05) -> Iterator[None]:
    """Work of which each slice takes some seconds."""
    for _ in range(round(seconds / slice)):
        clock.rightNow += slice
        yield


def test_long_work_is_no_reason_to_request_the_members_again(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    servers.wait(1)
    hub.presence._slices.add(long_work(clock, 2 * SUSPENDED))  # the members of many servers, say
    servers.wait(1)
    assert [message for message in servers.messages if "ask" in message] == []


def test_a_server_with_long_work_sends_heartbeats(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, count=2)
    busy, other = servers.hubs
    join(busy, "42")
    servers.wait(2)
    busy.presence._slices = Slices(TurnClock())  # which does not come to the next slice
    busy.presence._slices.add(iter([None] * 10_000))
    servers.wait(2 * SILENCE)
    assert list(members(other, "room-1")["members"]) == ["42"]


def test_a_server_that_was_suspended_during_long_work_drops_no_members_of_others(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    hub.presence.receive({"server": "other", "seq": 1, "changes": [["room-1", "zoe", 1, 0.0, 0.0, None]]})
    servers.wait(1)
    hub.presence._slices.add(long_work(clock, 2 * SILENCE, 2 * SILENCE))
    hub.presence._slices.add(long_work(clock, 1))
    servers.wait(1)
    assert list(members(hub, "room-1")["members"]) == ["zoe"]


def test_a_thousand_who_join_cost_each_member_ten_events(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    clients = []
    for number in range(1000):
        clients.append(join(hub, str(number)))
        clock.advance(0.01)
    servers.wait(3)
    assert max(len(client.got) for client in clients) <= 10
    members = set(heard(clients[0])[0]["members"])
    for each in heard(clients[0])[1:]:
        members |= each["joined"].keys()
    assert len(members) == 1000


def test_clients_that_join_in_one_turn_are_sent_the_same_list(clock: TurnClock, kinds: Path) -> None:
    (hub,) = Servers(clock, kinds).hubs
    clients = []
    for number in range(300):
        clients.append(Recorder())
        clients[-1].user, clients[-1].wants_presence = str(number), True
        hub.subscribe(clients[-1], ["room-1"])
    turns(clock)
    assert len({id(client.got[0]) for client in clients}) == 1
    assert len(heard(clients[0])[0]["members"]) == 300


def test_the_bytes_of_an_announcement_are_the_same_object(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    clients = [join(servers.hubs[0], str(number)) for number in range(3)]
    servers.wait(2)
    assert len({id(client.got[-1]) for client in clients}) == 1


def knows(client: Recorder) -> dict[str, Any]:
    """What a client shows that applies all that it was sent, as the browser module does."""
    said = heard(client)
    room: dict[str, Any] = {"channel": "room-1"}
    for each in said[next(n for n, one in enumerate(said) if "members" in one or "count" in one) :]:
        if "joined" not in each:
            room = each
        elif "members" in room:
            members = {**room["members"], **each["joined"]}
            for user in each["left"]:
                members.pop(user, None)
            room = {**room, "members": members}
        room["anonymous"] = each["anonymous"]
    return room


JOINS = st.tuples(st.sampled_from(["41", "42", "43", None]), st.booleans())  # and whether it is sent presence
LEAVES = st.integers(0, 5)  # which of the clients
WAITS = st.sampled_from([0.05, 0.25, 1.1])  # seconds


@settings(max_examples=200)
@given(st.lists(JOINS | LEAVES | WAITS, min_size=10, max_size=30), st.sampled_from([1, 2, 1000]))
def test_each_client_knows_who_is_here_whenever_its_list_was_made(
    kinds_once: Path, steps: list[tuple[str | None, bool] | int | float], most: int
) -> None:
    clock = TurnClock()
    servers = Servers(clock, kinds_once, presence_grace=0.05, presence_max=most)
    (hub,) = servers.hubs
    clients: list[Recorder] = []
    for step in steps:
        if isinstance(step, tuple):
            clients.append(join(hub, step[0], presence=step[1]))
        elif isinstance(step, float):
            servers.wait(step)
        elif clients:
            hub.unsubscribe(clients.pop(step % len(clients)))
    servers.wait(3)
    now = members(hub, "room-1")
    if "members" in now:
        now["members"] = {user: member["info"] for user, member in now["members"].items()}
    assert [knows(client) for client in clients if client.wants_presence] == [
        now for client in clients if client.wants_presence
    ]


def test_large_rooms_have_a_count(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, presence_max=2)
    (hub,) = servers.hubs
    clients = [join(hub, str(number)) for number in range(4)]
    servers.wait(2)
    assert heard(clients[-1])[0] == {"channel": "room-1", "count": 4, "anonymous": 0}
    assert heard(clients[0])[-1] == {"channel": "room-1", "count": 4, "anonymous": 0}
    assert members(hub, "room-1") == {"channel": "room-1", "count": 4, "anonymous": 0}


def test_a_large_room_that_shrinks_sends_its_members_again(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, presence_max=2, presence_grace=1.0)
    (hub,) = servers.hubs
    clients = [join(hub, str(number)) for number in range(3)]
    servers.wait(2)
    assert heard(clients[0])[-1]["count"] == 3
    hub.unsubscribe(clients[2])
    servers.wait(4)
    assert heard(clients[0])[-1] == {"channel": "room-1", "members": {"0": {}, "1": {}}, "anonymous": 0}


def test_a_newcomer_who_was_sent_a_number_is_sent_the_members_when_the_room_is_small_again(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds, presence_max=1, presence_grace=0.05)
    (hub,) = servers.hubs
    join(hub, "41")
    servers.wait(2)
    other, newcomer = join(hub, "42"), join(hub, "41")
    hub.unsubscribe(other)
    servers.wait(2)
    assert [each.get("count") for each in heard(newcomer)] == [2, None]
    assert knows(newcomer)["members"] == {"41": {}}


def test_clients_of_a_large_room_are_sent_the_members_also_after_one_who_came_back(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds, presence_max=1, presence_grace=0.05)
    (hub,) = servers.hubs
    client, other = join(hub, "41"), join(hub, "42", presence=False)
    servers.wait(2)
    join(hub, None, presence=False)
    servers.wait(0.3)  # this is announced; the next change is 1.1 seconds later
    hub.unsubscribe(other)
    servers.wait(0.5)
    assert len(members(hub, "room-1")["members"]) == 1
    other = join(hub, "42", presence=False)
    servers.wait(2)
    hub.unsubscribe(other)
    servers.wait(2)
    assert knows(client)["members"] == {"41": {}}
    hub.unsubscribe(client)
    servers.wait(2)
    assert not hub.presence._counted


def test_the_answer_to_a_question_has_streams_and_since(clock: TurnClock, kinds: Path) -> None:
    (hub,) = Servers(clock, kinds).hubs
    join(hub, "42", info="[1]")
    join(hub, "42", info="[2]")
    member = members(hub, "room-1")["members"]["42"]
    assert (member["info"], member["streams"]) == ([2], 2)
    assert member["since"] > 1_700_000_000
    assert members(hub, "room-2") == {"channel": "room-2", "members": {}, "anonymous": 0}


def test_the_application_is_told_where_it_happened(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, count=2)
    told: list[tuple[int, str, list[str], list[str]]] = []
    for number, hub in enumerate(servers.hubs):
        hub.presence.on_changes = lambda channel, joined, left, number=number: told.append(
            (number, channel, list(joined), left)
        )
    ann = join(servers.hubs[0], "42")
    servers.wait(2)
    servers.hubs[0].unsubscribe(ann)
    servers.wait(14)
    assert told == [(0, "room-1", ["42"], []), (0, "room-1", [], ["42"])]


def test_the_application_is_told_of_the_last_changes_of_a_server_that_stops(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds, count=2)
    first, second = servers.hubs
    told: list[str] = []
    for hub in servers.hubs:
        hub.presence.on_changes = lambda channel, joined, left: told.extend(joined)
    join(first, "42")
    first.presence.stop()
    join(second, "42")  # her client reconnects
    servers.wait(20)
    assert told == ["42"]


def test_the_application_learns_who_is_present_whatever_crosses(
    kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(14, 24):
        names = random.Random(seed)
        monkeypatch.setattr(secrets, "token_hex", lambda _, names=names: f"{names.random()}")
        model = PresenceModel(seed, kinds)
        model.play(30)
        assert list(model.faults()) == [], seed


def test_without_presence_nothing_is_reported(clock: TurnClock, tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('["x"]\nhistory_size = 1\n')
    servers = Servers(clock, path)
    join(servers.hubs[0], "42")
    servers.wait(20)
    assert servers.messages == []


def test_kinds_can_change_while_it_runs(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    kinds.write_text('["chat-*"]\npresence = true\n')
    hub.reload_kinds()
    assert len(join(hub, "42", "room-1", "chat-1").got) == 1
    kinds.write_text("nonsense")
    with pytest.raises(ValueError, match="--channels"):
        hub.reload_kinds()
    assert hub.kinds.of("chat-1").presence


def test_connected_clients_are_members_of_channels_whose_kind_changes(
    clock: TurnClock, kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_feed, "RENEWED_AT_ONCE", 2)
    servers = Servers(clock, kinds)
    (hub,) = servers.hubs
    ann, bob = join(hub, "42", "room-1", "chat-1"), join(hub, "43", "chat-1", "chat-*")
    servers.wait(2)
    kinds.write_text('["chat-*"]\npresence = true\n')
    hub.reload_kinds()
    servers.wait(2)
    whole = {"channel": "chat-1", "members": {"42": {}, "43": {}}, "anonymous": 0}
    assert whole in heard(ann)
    assert whole in heard(bob)
    sent = len(heard(ann))
    servers.wait(10)
    assert [*members(hub, "room-1")["members"]] == []
    hub.unsubscribe(bob)
    servers.wait(12)
    assert heard(ann)[sent:] == [{"channel": "chat-1", "joined": {}, "left": ["43"], "anonymous": 0}]
    hub.unsubscribe(ann)
    assert (hub.presence._joined, hub.presence._listeners) == ({}, {})


def test_a_server_whose_kinds_had_no_presence_for_a_while_knows_who_is_elsewhere(
    clock: TurnClock, kinds: Path
) -> None:
    servers = Servers(clock, kinds, count=2)
    here, there = servers.hubs
    ann, bob = join(here, "42"), join(there, "43")
    servers.wait(2)
    text = kinds.read_text()
    kinds.write_text('["x"]\nhistory_size = 1\n')
    here.reload_kinds()
    servers.wait(SILENCE + 20)
    carol = join(there, "44")
    kinds.write_text(text)
    here.reload_kinds()
    servers.wait(2)
    for hub in servers.hubs:
        assert members(hub, "room-1")["members"].keys() == {"42", "43", "44"}
    assert all("43" not in each.get("left", ()) for client in (ann, bob, carol) for each in heard(client))


def test_members_leave_where_no_kind_has_presence_any_more(clock: TurnClock, kinds: Path) -> None:
    servers = Servers(clock, kinds, count=2)
    here, there = servers.hubs
    told: list[tuple[str, list[str], list[str]]] = []
    here.presence.on_changes = lambda channel, joined, left: told.append((channel, list(joined), left))
    join(here, "42"), join(there, "43")
    servers.wait(2)
    kinds.write_text('["x"]\nhistory_size = 1\n')
    here.reload_kinds()
    servers.wait(12)
    assert told == [("room-1", ["42"], []), ("room-1", [], ["42"])]
    assert members(there, "room-1")["members"].keys() == {"43"}
    sent = len(servers.messages)
    servers.wait(SILENCE + 20)
    assert {each["server"] for each in servers.messages[sent:]} == {there.presence._presence._server}
    assert len(told) == 2


def test_the_members_of_a_large_room_are_written_in_slices_as_they_were(
    clock: TurnClock, kinds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_feed, "MEMBERS_AT_ONCE", 3)
    servers = Servers(clock, kinds, **{"presence-grace": 0})
    hub = servers.hubs[0]
    clients = [join(hub, str(number), info='{"n":1}') for number in range(7)]
    writing = hub.presence.members("room-1")
    next(writing)
    hub.unsubscribe(clients[-1])
    servers.wait(3)
    next(writing)
    answer = json.loads(finish(writing))
    assert [*answer["members"]] == [str(number) for number in range(7)]
    assert answer["members"]["6"]["info"] == {"n": 1}
    assert "6" not in members(hub, "room-1")["members"]
