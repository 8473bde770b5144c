"""Events that very many channels get in slices: known with the channels that may not have them yet."""

from __future__ import annotations

from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.spreading import Spreading


def event(number: int, channels: str) -> Event:
    return Event(EventId.of(number, 0, "node"), b"x", tuple(channels))


def test_an_event_is_for_its_channels_until_all_have_it() -> None:
    spreading, one, two = Spreading(), event(1, "ab"), event(2, "bc")
    assert not spreading.events
    spreading.start(one)
    spreading.start(two)
    assert [list(spreading.of(name)) for name in "abcd"] == [[one], [one, two], [two], []]
    assert spreading.awaited_by({"a", "c", "d"}) == {"a", "c"}
    assert list(spreading.after(one.seq, ["a", "b"])) == [two]
    spreading.finish(one)
    assert one not in spreading
    assert not spreading.is_for(one, "a")
    assert list(spreading.of("b")) == [two]


def test_a_channel_that_was_cleared_does_not_get_the_events_before() -> None:
    spreading, one, two = Spreading(), event(1, "ab"), event(2, "ab")
    spreading.start(one)
    spreading.start(two)
    spreading.leave_out("a", one.seq)
    assert [spreading.is_for(each, name) for each in (one, two) for name in "ab"] == [False, True, True, True]
    spreading.leave_out("b")
    assert spreading.awaited_by({"a", "b"}) == {"a"}


def test_when_all_is_forgotten_the_rest_of_the_channels_get_nothing() -> None:
    spreading, one = Spreading(), event(1, "ab")
    spreading.start(one)
    spreading.clear()
    spreading.finish(one)
    assert not spreading.events
    assert one not in spreading
