"""The members of channels on several servers: one picture, whatever becomes of the messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.presence import HEARTBEAT, SILENCE, Message, Presence

GRACE = 10.0


def run(presence: Presence, now: float) -> list[Message]:
    """What the server sends after its tick, over the wire."""
    for _ in presence.tick(now):
        pass
    sent: list[Message] = json.loads(json.dumps(list(presence.pop_messages(now))))
    return sent


def members(presence: Presence, channel: str = "room") -> dict[str, int]:
    """Each member, and how many streams."""
    room = presence.room(channel)
    return {user: sum(entry.streams for entry in servers.values()) for user, servers in room.members.items()}


def talk(servers: Iterable[Presence], now: float, rounds: int = 4) -> None:
    """Every message reaches every other server."""
    servers = list(servers)
    for _ in range(rounds):
        for sender in servers:
            for message in run(sender, now):
                for receiver in servers:
                    receiver.receive(message, now)


def test_streams_of_a_user_are_one_member() -> None:
    a = Presence("a", GRACE)
    for _ in range(3):
        a.join("room", "42", '{"name":"Ann"}', 1.0)
    a.join("room", None, None, 1.0)
    changes = a.pop_changes("room")
    assert changes is not None
    assert (changes.joined, changes.left, changes.anonymous) == ({"42": '{"name":"Ann"}'}, [], 1)
    assert members(a) == {"42": 3}
    assert a.pop_changes("room") is None


def test_a_reload_is_not_seen() -> None:
    a = Presence("a", GRACE)
    a.join("room", "42", None, 1.0)
    a.pop_changes("room")
    a.leave("room", "42", 100.0)
    run(a, 109.0)
    a.join("room", "42", None, 109.0)
    run(a, 200.0)
    assert a.pop_changes("room") is None
    assert members(a) == {"42": 1}


def test_a_member_leaves_when_the_grace_is_over() -> None:
    a = Presence("a", GRACE)
    a.join("room", "42", None, 1.0)
    a.pop_changes("room")
    a.leave("room", "42", 100.0)
    run(a, 112.0)
    changes = a.pop_changes("room")
    assert changes is not None
    assert changes.left == ["42"]
    assert members(a) == {}


def test_a_user_who_moves_to_another_server_is_not_seen_to_leave() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    a.join("room", "42", None, 1.0)
    talk([a, b], 1.0)
    assert b.pop_changes("room") is not None
    a.leave("room", "42", 2.0)
    b.join("room", "42", None, 3.0)
    for now in (3.0, 13.0, 14.0):
        talk([a, b], now)
    assert members(a) == members(b) == {"42": 1}
    assert b.pop_changes("room") is None


def test_a_server_that_stops_takes_no_member_with_it_who_reconnects() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    a.join("room", "42", None, 1.0)
    a.join("room", "43", None, 1.0)
    talk([a, b], 1.0)
    b.pop_changes("room")
    a.stop()
    for message in run(a, 2.0):
        b.receive(message, 2.0)
    b.join("room", "42", None, 5.0)
    run(b, 11.0)
    assert b.pop_changes("room") is None
    run(b, 12.0)
    changes = b.pop_changes("room")
    assert changes is not None
    assert changes.left == ["43"]


def test_the_members_of_a_killed_server_leave_and_one_server_speaks_for_it() -> None:
    a, b, c = Presence("a", GRACE), Presence("b", GRACE), Presence("c", GRACE)
    a.join("room", "42", None, 1.0)
    talk([a, b, c], 1.0)
    for server in (b, c):
        server.pop_changes("room")
    for now in (6.0, 11.0, 16.0, 1.0 + SILENCE, 2.0 + SILENCE):
        talk([b, c], now)
    heard = [server.pop_changes("room") for server in (b, c)]
    assert [changes.left for changes in heard if changes] == [["42"], ["42"]]
    assert [set(changes.here) for changes in heard if changes] == [{"42"}, set()]


def test_a_server_that_starts_learns_who_is_there() -> None:
    a = Presence("a", GRACE)
    for number in range(1000):
        a.join("room", str(number), None, 1.0)
    run(a, 1.0)
    b = Presence("b", GRACE)
    b.ask_all()
    talk([a, b], 2.0)
    assert members(b) == members(a)


def test_a_silent_server_sends_a_heartbeat() -> None:
    a = Presence("a", GRACE)
    assert len(run(a, 1.0)) == 1
    assert run(a, 2.0) == []
    assert run(a, 1.0 + HEARTBEAT) == [{"server": "a", "seq": 0}]


def test_what_is_malformed_is_left_out() -> None:
    a = Presence("a", GRACE)
    entry = ["room", "42", 1, 1.0, None]
    for message in (
        {},
        {"server": 1},
        {"server": "b", "seq": "x"},
        {"server": "b", "seq": 1, "changes": [1, [], ["room"], ["room", 1, 1], ["room", "1", "x"], entry]},
        {"server": "b", "seq": 2, "part": 0, "parts": "x", "changes": []},
    ):
        a.receive(message, 1.0)
    assert members(a) == {"42": 1}


@pytest.mark.slow
@given(st.data())
def test_all_servers_come_to_the_same_picture_whatever_becomes_of_messages(data: Any) -> None:
    servers = [Presence(name, GRACE) for name in "abc"]
    truth: dict[tuple[int, str], int] = {}
    under_way: list[Message] = []
    now = 1.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.sampled_from([0.0, 0.3, 2.0]))
        action = data.draw(st.sampled_from(["join", "leave", "send", "deliver", "deliver", "lose", "repeat"]))
        where = data.draw(st.integers(0, 2))
        user = data.draw(st.sampled_from(["1", "2", "3"]))
        if action == "join":
            servers[where].join("room", user, None, now)
            truth[where, user] = truth.get((where, user), 0) + 1
        elif action == "leave" and truth.get((where, user)):
            servers[where].leave("room", user, now)
            truth[where, user] -= 1
        elif action == "send":
            under_way += run(servers[where], now)
        elif under_way:
            message = under_way[data.draw(st.integers(0, len(under_way) - 1))]
            if action != "repeat":
                under_way.remove(message)
            if action != "lose":
                for server in servers:
                    server.receive(message, now)
    for _ in range(6):  # from here on nothing is lost; the grace of all has passed in the end
        now += HEARTBEAT
        talk(servers, now)
    expected: dict[str, int] = {}
    for (_, user), streams in truth.items():
        if streams:
            expected[user] = expected.get(user, 0) + streams
    assert [members(server) for server in servers] == [expected] * 3
