"""The members of channels on several servers: one picture, whatever becomes of the messages."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery import presence
from cyclone_sse.delivery.presence import HEARTBEAT, MESSAGE_ENTRIES, SILENCE, Message, Presence
from cyclone_sse.delivery.room import Room
from cyclone_sse.slices import finish

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


def receive(presence: Presence, message: Mapping[str, Any], now: float) -> None:
    finish(presence.receive(message, now))


def steps(work: Iterator[None]) -> Iterator[None]:
    """Do the work; yields after each slice, also after the last."""
    yield from work
    yield


def whole(presence: Presence) -> list[Message]:
    """The answer of the server to a question, with nothing else that it has to report."""
    run(presence, 1.0)
    receive(presence, {"server": "x", "ask": None}, 1.0)
    return run(presence, 1.0)


def talk(servers: Iterable[Presence], now: float, rounds: int = 4) -> None:
    """Every message reaches every other server."""
    servers = list(servers)
    for _ in range(rounds):
        for sender in servers:
            for message in run(sender, now):
                for receiver in servers:
                    receive(receiver, message, now)


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


def test_a_reload_with_another_info_shows_it() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    a.join("room", "42", "1", 1.0)
    talk([a, b], 1.0)
    for server in (a, b):
        server.pop_changes("room")
    a.leave("room", "42", 2.0)
    a.join("room", "42", "2", 2.0)
    talk([a, b], 3.0)
    for server in (a, b):
        changes = server.pop_changes("room")
        assert changes is not None
        assert (changes.joined, changes.left, members(server)) == ({"42": "2"}, [], {"42": 1})


def test_servers_that_a_user_joins_at_once_show_the_same_info() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    b.join("room", "42", '"b"', 1.0)
    a.join("room", "42", '"a"', 1.5)
    talk([a, b], 2.0)
    assert a.room("room").infos == b.room("room").infos == {"42": '"a"'}
    a.leave("room", "42", 3.0)
    for now in (4.0, 14.0, 15.0):
        talk([a, b], now)
    assert a.room("room").infos == b.room("room").infos == {"42": '"b"'}, "as a server that starts now"


def test_the_info_is_that_of_the_stream_that_opened_last() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    a.join("room", "42", '"old"', 1.0)
    talk([a, b], 1.0)
    for server, other, info in ((a, b, '"new"'), (b, a, '"newer"'), (a, b, '"newest"')):
        server.pop_changes("room")
        server.join("room", "42", info, float(len(info)))
        changes = server.pop_changes("room")
        assert changes is not None
        assert (changes.joined, changes.left) == ({"42": info}, [])
        talk([a, b], 2.0)
        assert other.room("room").infos == {"42": info}
    a.leave("room", "42", 11.0)
    assert a.room("room").infos == {"42": '"newest"'}


def test_a_reload_with_the_info_that_is_shown_is_not_reported() -> None:
    a = Presence("a", 0.0)
    a.join("room", "42", '"1"', 1.0)
    list(a.pop_messages(1.0))
    a.leave("room", "42", 2.0)
    a.join("room", "42", '"1"', 3.0)
    assert list(a.pop_messages(3.0)) == []


def test_a_reload_with_the_info_of_another_server_keeps_it_when_that_stream_ends() -> None:
    a, b = Presence("a", GRACE), Presence("b", 0.0)
    a.join("room", "42", '"old"', 1.0)
    b.join("room", "42", '"new"', 2.0)
    talk([a, b], 3.0)
    a.leave("room", "42", 4.0)
    a.join("room", "42", '"new"', 5.0)
    b.leave("room", "42", 6.0)
    talk([a, b], 7.0)
    assert a.room("room").infos == b.room("room").infos == {"42": '"new"'}


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
        receive(b, message, 2.0)
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
    for now in (1.0, 6.0):
        talk([a, b, c], now)
    for server in (b, c):
        server.pop_changes("room")
    for now in (11.0, 16.0, 6.0 + SILENCE, 7.0 + SILENCE):
        talk([b, c], now)
    heard = [server.pop_changes("room") for server in (b, c)]
    assert [changes.left for changes in heard if changes] == [["42"], ["42"]]
    assert [set(changes.here) for changes in heard if changes] == [{"42"}, set()]


def here(presence: Presence) -> set[str]:
    """The users of whose changes this server tells the application."""
    changes = presence.pop_changes("room")
    return set(changes.here) if changes else set()


def two_servers_with_a_member(streams_on: str) -> tuple[Presence, Presence]:
    """Servers "a" and "b". User 42 has a stream on each that is named, of which the application knows."""
    servers = Presence("a", GRACE), Presence("b", GRACE)
    for name, server in zip("ab", servers, strict=True):
        if name in streams_on:
            server.join("room", "42", None, 1.0)
    talk([*servers], 1.0)
    for server in servers:
        here(server)
    return servers


@pytest.mark.parametrize("other", ["stops", "is killed too", "has just started"])
def test_no_server_that_cannot_tell_of_it_speaks_for_one_that_was_killed(other: str) -> None:
    killed, b, c = Presence("k", GRACE), Presence("b", GRACE), Presence("c", GRACE)
    known = [killed, b, c] if other != "has just started" else [killed, c]
    killed.join("room", "42", None, 1.0)
    for now in (1.0, 6.0):
        talk(known, now)
    here(c)
    if other == "has just started":
        b.ask_all()
    if other == "stops":
        b.stop()
        talk([b, c], 20.0)
    for now in (7.0, 12.0, 17.0, 22.0, 6.0 + SILENCE, 7.0 + SILENCE):
        talk([b, c] if other == "has just started" else [c], now)
    assert members(c) == {}
    assert here(c) == {"42"}


def test_streams_that_close_on_two_servers_at_once_are_told_as_a_leave() -> None:
    a, b = two_servers_with_a_member("ab")
    for server in (a, b):
        server.leave("room", "42", 1.0)
    sent_by_a, sent_by_b = run(a, 12.0), run(b, 12.0)  # these cross
    assert here(a) == here(b) == set()
    for message in sent_by_a:
        receive(b, message, 12.1)
    for message in sent_by_b:
        receive(a, message, 12.1)
    assert here(a) | here(b) == {"42"}


def test_streams_that_close_one_after_the_other_are_told_once() -> None:
    a, b = two_servers_with_a_member("ab")
    a.leave("room", "42", 1.0)
    b.leave("room", "42", 2.5)
    for now in (12.0, 12.25, 13.0, 13.25, 13.5, 13.75, 14.0):
        talk([a, b], now, rounds=1)
    assert (here(a), here(b)) == (set(), {"42"})


def test_a_user_who_is_back_on_another_server_while_the_leave_is_told_is_told_again() -> None:
    a, b = two_servers_with_a_member("a")
    a.leave("room", "42", 1.0)
    sent = run(a, 12.0)
    assert here(a) == {"42"}  # is told to have left
    b.join("room", "42", None, 12.0)  # and stays a member there
    for message in sent:
        receive(b, message, 12.1)
    assert here(b) == set()
    for message in run(b, 12.2):
        receive(a, message, 12.2)
    assert here(a) == {"42"}
    talk([a, b], 20.0)
    assert not a._left_lately


def test_what_crossed_during_an_outage_of_the_broker_is_told_after_it() -> None:
    a, b = two_servers_with_a_member("a")
    a.leave("room", "42", 1.0)
    b.join("room", "42", None, 2.0)  # which the other server does not receive
    now = 2.0
    while now < 60.0:
        for server in (a, b):
            list(server.tick(now, connected=False))
            list(server.pop_messages(now))
        now += 1.0
    assert here(a) == {"42"}  # is told to have left
    for now in (61.0, 62.0, 67.0):
        talk([a, b], now)
    assert members(a) == members(b) == {"42": 1}
    assert here(a) == {"42"}


def test_a_server_that_starts_learns_who_is_there() -> None:
    a = Presence("a", GRACE)
    for number in range(1000):
        a.join("room", str(number), None, 1.0)
    run(a, 1.0)
    b = Presence("b", GRACE)
    b.ask_all()
    talk([a, b], 2.0)
    assert members(b) == members(a)


def test_the_members_of_a_server_are_replaced_in_slices() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    for number in range(3 * MESSAGE_ENTRIES):
        a.join("room", f"old{number}", None, 1.0)
    talk([a, b], 1.0)
    for number in range(3 * MESSAGE_ENTRIES):
        a.leave("room", f"old{number}", 1.0)
        a.join("room", f"new{number}", None, 1.0)
    run(a, 100.0)  # lost
    seen = []
    for message in whole(a):
        before = members(b).keys()
        for _ in steps(b.receive(message, 100.0)):
            seen.append(len(before ^ members(b).keys()))
            before = members(b).keys()
    assert members(b) == members(a)
    assert max(seen) == MESSAGE_ENTRIES
    assert sum(seen) == 6 * MESSAGE_ENTRIES


def test_a_report_that_comes_while_the_members_are_replaced_is_applied_after_that() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    for number in range(2 * MESSAGE_ENTRIES):
        a.join("room", str(number), None, 1.0)
    *first, last = whole(a)
    for message in first:
        receive(b, message, 1.0)
    run(b, 1.0)
    replacing = b.receive(last, 1.0)
    next(replacing)
    a.join("room", "0", None, 2.0)
    a.join("room", str(2 * MESSAGE_ENTRIES - 1), None, 2.0)
    for message in run(a, 4.0):
        receive(b, message, 4.0)
    finish(replacing)
    assert members(b) == members(a)
    assert run(b, 4.0) == []  # nothing is asked for


def test_after_an_error_the_members_of_a_server_are_requested() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    a.join("room", "1", None, 1.0)
    (message,) = run(a, 1.0)
    with patch.object(Room, "set", side_effect=MemoryError), pytest.raises(MemoryError):
        receive(b, message, 1.0)
    assert not members(b)
    a.join("room", "2", None, 2.0)
    talk([a, b], 10.0)
    assert members(b) == members(a) == {"1": 1, "2": 1}


def test_reports_behind_a_missing_one_are_applied_in_slices() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    for number in range(5 * MESSAGE_ENTRIES):
        a.join("room", str(number), None, 1.0)
    missing, *others = run(a, 1.0)
    for message in others:
        receive(b, message, 1.0)
    assert not members(b)
    sizes = [len(members(b)) for _ in steps(b.receive(missing, 1.0))]
    assert sizes == [number * MESSAGE_ENTRIES for number in (1, 2, 3, 4, 5)]


def test_who_stays_does_not_leave_while_the_members_are_replaced() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    users = [str(number) for number in range(3 * MESSAGE_ENTRIES)]
    for user in users:
        a.join("room", user, None, 1.0)
    talk([a, b], 1.0)
    b.pop_changes("room")
    a.join("room", "new", None, 1.0)
    run(a, 1.0)  # lost
    for message in whole(a):
        for _ in steps(b.receive(message, 1.0)):
            assert members(b).keys() >= set(users)
    changes = b.pop_changes("room")
    assert changes is not None
    assert (changes.joined, changes.left) == ({"new": None}, [])


def test_the_members_of_a_server_that_is_dropped_do_not_come_back() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    for number in range(2 * MESSAGE_ENTRIES):
        a.join("room", str(number), None, 1.0)
    *first, last = whole(a)
    for message in first:
        receive(b, message, 1.0)
    replacing = b.receive(last, 1.0)
    next(replacing)
    run(b, 1.0 + SILENCE)
    finish(replacing)
    assert members(b) == {}


def test_a_server_that_is_back_while_it_is_dropped_keeps_only_its_members() -> None:
    a, b = Presence("a", GRACE), Presence("b", GRACE)
    users = [str(number) for number in range(2 * MESSAGE_ENTRIES)]
    for user in users:
        a.join("room", user, None, 1.0)
    talk([a, b], 1.0)
    dropping = b.tick(1.0 + SILENCE)
    next(dropping)
    for user in users[1:]:
        a.leave("room", user, 1.0)
    run(a, 1.0 + SILENCE)
    for message in whole(a):
        receive(b, message, 1.0 + SILENCE)
    for _ in dropping:
        pass
    assert members(b) == members(a) == {"0": 1}


def test_a_silent_server_sends_a_heartbeat() -> None:
    a = Presence("a", GRACE)
    assert len(run(a, 1.0)) == 1
    assert run(a, 2.0) == []
    assert run(a, 1.0 + HEARTBEAT) == [{"server": "a", "seq": 0}]


def test_what_is_malformed_is_left_out() -> None:
    a = Presence("a", GRACE)
    entry = ["room", "42", 1, 1.0, 1.0, None]
    for message in (
        {},
        {"server": 1},
        {"server": "b", "seq": "x"},
        {"server": "b", "seq": 1, "changes": [1, [], ["room"], ["room", 1, 1], ["room", "1", "x"], entry]},
        {
            "server": "b",
            "seq": 2,
            "changes": [["\ud800", "1", 1, 1.0, 1.0, None], ["room", "\ud800", 1, 1.0, 1.0, None]],
        },
        {
            "server": "b",
            "seq": 3,
            "changes": [["room", "1", 1, 1.0, 1.0, info] for info in ("{", "\ud800", 1)],
        },
        {"server": "b", "seq": 2, "part": 0, "parts": "x", "changes": []},
    ):
        receive(a, message, 1.0)
    assert members(a) == {"42": 1}


class Work:
    """The work of a server that has been started, in its order."""

    def __init__(self) -> None:
        self._tasks: deque[Iterator[None]] = deque()

    def start(self, task: Iterator[None]) -> None:
        if next(task, task) is None:
            self._tasks.append(task)

    def advance(self, slices: int) -> None:
        for _ in range(slices):
            if self._tasks and next(self._tasks[0], self._tasks) is not None:
                self._tasks.popleft()


@pytest.mark.slow
@patch.object(presence, "MESSAGE_ENTRIES", 2)
@given(st.data())
def test_all_servers_come_to_the_same_picture_whatever_becomes_of_messages(data: Any) -> None:
    servers = [Presence(name, GRACE) for name in "abc"]
    work = [Work() for _ in servers]
    truth: dict[tuple[int, str], int] = {}
    under_way: list[Message] = []
    now = 1.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.sampled_from([0.0, 0.3, 2.0]))
        action = data.draw(st.sampled_from(["join", "leave", "send", "deliver", "deliver", "lose", "repeat"]))
        where = data.draw(st.integers(0, 2))
        work[where].advance(data.draw(st.integers(0, 1)))
        user = data.draw(st.sampled_from(["1", "2", "3", "4", "5", "6"]))
        if action == "join":
            servers[where].join("room", user, data.draw(st.sampled_from(["1", "2"])), now)
            truth[where, user] = truth.get((where, user), 0) + 1
        elif action == "leave" and truth.get((where, user)):
            servers[where].leave("room", user, now)
            truth[where, user] -= 1
        elif action == "send":
            work[where].advance(1000)
            under_way += run(servers[where], now)
        elif under_way:
            message = under_way[data.draw(st.integers(0, len(under_way) - 1))]
            if action != "repeat":
                under_way.remove(message)
            if action != "lose":
                for server, queue in zip(servers, work, strict=True):
                    queue.start(server.receive(message, now))
    for queue in work:
        queue.advance(1000)
    for _ in range(6):  # from here on nothing is lost; the grace of all has passed in the end
        now += HEARTBEAT
        talk(servers, now)
    expected: dict[str, int] = {}
    for (_, user), streams in truth.items():
        if streams:
            expected[user] = expected.get(user, 0) + streams
    assert [members(server) for server in servers] == [expected] * 3
    infos = servers[0].room("room").infos
    assert infos.keys() == expected.keys()
    assert [server.room("room").infos for server in servers[1:]] == [infos] * 2
