"""The members of one channel."""

from __future__ import annotations

from cyclone_sse.delivery.room import GONE, Entry, Room


def test_the_info_is_that_of_the_first_stream() -> None:
    room = Room()
    room.set("a", "42", Entry(1, 1.0, "1"), "a")
    room.set("b", "42", Entry(1, 2.0, "2"), "b")
    assert room.infos == {"42": "1"}
    assert room.joined == {"42": "a"}


def test_a_user_who_joins_and_leaves_between_two_announcements_is_not_announced() -> None:
    room = Room()
    room.set("a", "42", Entry(1), "a")
    room.set("a", "42", GONE, "a")
    assert not room.is_changed


def test_streams_without_a_user_are_a_number() -> None:
    room = Room()
    room.set("a", None, Entry(3), "a")
    room.set("b", None, Entry(2), "b")
    assert (room.anonymous_count, room.is_changed, room.members) == (5, True, {})
    room.set("a", None, GONE, "a")
    assert room.anonymous_count == 2
