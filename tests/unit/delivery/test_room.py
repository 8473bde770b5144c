"""The members of one channel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.presence import Presence
from cyclone_sse.delivery.room import NO_STREAMS, Changes, Entry, Room


def test_the_info_is_that_of_the_last_stream() -> None:
    room = Room()
    room.set("a", "42", Entry(1, 1.0, 1.0, "1"), "a")
    room.set("b", "42", Entry(1, 2.0, 2.0, "2"), "b")
    assert room.infos == {"42": "2"}
    assert room.joined == {"42": "b"}
    late = Room()
    late.set("b", "42", Entry(1, 2.0, 2.0, "2"), "b")
    late.set("a", "42", Entry(1, 1.0, 1.0, "1"), "a")
    assert late.infos == room.infos, "in whatever order it is heard of"


def test_a_user_who_joins_and_leaves_between_two_announcements_is_not_announced() -> None:
    room = Room()
    room.set("a", "42", Entry(1), "a")
    room.set("a", "42", NO_STREAMS, "a")
    assert not room.is_changed


def test_a_user_who_leaves_and_joins_between_two_announcements_is_announced_with_another_info() -> None:
    a = Presence("a", 0.0)

    def rejoin(*infos: str) -> Changes | None:
        for info in infos:
            a.leave("room", "42", 1.0)
            list(a.tick(10.0))
            a.join("room", "42", info, 1.0)
        return a.pop_changes("room")

    a.join("room", "42", "1", 1.0)
    a.pop_changes("room")
    assert rejoin("1") is None
    assert rejoin("2", "1") is None
    changes = rejoin("3", "2")
    assert changes is not None
    assert (dict(changes.joined), changes.left, set(changes.here)) == ({"42": "2"}, [], {"42"})
    assert rejoin("2") is None
    a.leave("room", "42", 1.0)
    list(a.tick(10.0))
    changes = a.pop_changes("room")
    assert changes is not None
    assert (changes.joined, changes.left) == ({}, ["42"])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0, 1]), st.sampled_from("12"))))
def test_announcements_add_up_to_the_members(steps: list[tuple[str, int, str]]) -> None:
    room, announced = Room(), dict[str, str | None]()
    for server, streams, info in steps:
        room.set(server, "42", Entry(streams, 1.0, 1.0, info), server)
        if info == "2":
            assert room.joined.keys().isdisjoint(room.left)
            announced.update({user: room.infos[user] for user in room.joined})
            for user in room.left:
                del announced[user]
            assert announced == room.infos
            room.note_announced()
            assert not room.is_changed


STEPS = st.tuples(st.sampled_from(["42", "43", None]), st.sampled_from([0, 1]), st.sampled_from("12"))


@given(st.lists(STEPS | st.sampled_from(["list", "announce"]), max_size=30))
def test_each_client_knows_the_members_from_its_list_and_the_announcements(
    steps: list[tuple[str | None, int, str] | str],
) -> None:
    room = Room()
    told: dict[str, str | None] = {}  # what an application knows
    clients: list[tuple[dict[str, str | None], list[int]]] = []
    for step in [*steps, "announce"]:
        if step == "list":
            room.note_listed()
            clients.append((dict(room.infos), [room.anonymous_count]))
        elif step != "announce":
            assert not isinstance(step, str)
            user, streams, info = step
            room.set("a", user, Entry(streams, 1.0, 1.0, info), "a")
        elif room.is_changed:
            for known, anonymous in clients:
                known.update({user: room.infos[user] for user in room.joined})
                for user in room.left:
                    known.pop(user, None)
                anonymous.append(room.anonymous_count)
            for user in room.joined.keys() | room.left.keys():
                is_news = told.get(user, "none") != room.infos.get(user, "none")
                assert room.is_as_announced(user) is not is_news
            told = dict(room.infos)
            room.note_announced()
        if step == "announce":
            assert told == room.infos
            for known, anonymous in clients:
                assert (known, anonymous[-1]) == (room.infos, room.anonymous_count)


def test_a_user_who_is_back_is_announced_to_the_clients_of_a_list_and_not_to_the_application() -> None:
    a = Presence("a", 0.0)
    a.join("room", "42", "1", 1.0)
    a.pop_changes("room")
    a.leave("room", "42", 1.0)
    list(a.tick(10.0))
    a.room("room").note_listed()
    a.join("room", "42", "1", 1.0)
    changes = a.pop_changes("room")
    assert changes is not None
    assert (dict(changes.joined), changes.left, set(changes.here)) == ({"42": "1"}, [], set())
    a.leave("room", "42", 1.0)
    list(a.tick(20.0))
    changes = a.pop_changes("room")
    assert changes is not None
    assert (changes.joined, changes.left, set(changes.here)) == ({}, ["42"], {"42"})


def test_streams_without_a_user_are_a_number() -> None:
    room = Room()
    room.set("a", None, Entry(3), "a")
    room.set("b", None, Entry(2), "b")
    assert (room.anonymous_count, room.is_changed, room.members) == (5, True, {})
    room.set("a", None, NO_STREAMS, "a")
    assert room.anonymous_count == 2
