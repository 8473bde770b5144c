"""The events that channels hold: each is released once, and never very many in one call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.event_log import FREED_AT_ONCE, EventLog
from cyclone_sse.delivery.events import Event, EventId, encode


def event(number: int) -> Event:
    return Event(EventId.of(number, 0, "node"), encode("x"))


def test_an_event_is_released_with_its_last_holder() -> None:
    released: list[Event] = []
    log = EventLog(released.append)
    one = event(1)
    log.add(one)
    one.holders += 1
    log.drop(one)
    assert (released, list(log.after(0))) == ([], [one])
    log.drop(one)
    assert (released, list(log.after(0)), log.bytes, len(log)) == ([one], [], 0, 0)


def test_of_very_many_events_most_are_released_later_and_not_read_any_more() -> None:
    released: list[Event] = []
    log = EventLog(released.append)
    events = [event(number) for number in range(1, 5 * FREED_AT_ONCE)]
    for each in events:
        log.add(each)
    log.drop_all(events[:-1])
    assert released == events[:FREED_AT_ONCE]
    assert list(log.after(0)) == events[-1:]
    assert log.has_unheld
    log.release_some(len(events))
    assert released == events[:-1]
    assert not log.has_unheld
    log.drop(events[-1])
    assert log.bytes == 0


@given(st.lists(st.lists(st.integers(0, 29), max_size=30), max_size=6), st.integers(1, 7))
def test_each_is_released_once(groups: list[list[int]], most: int) -> None:
    """groups: the events of some channels, which drop them one channel after the other."""
    released: list[Event] = []
    log = EventLog(released.append)
    events = [event(number) for number in range(1, 31)]
    for each in events:
        log.add(each)
    channels = [[events[number] for number in sorted(set(group))] for group in groups]
    for channel in channels:
        for each in channel:
            each.holders += 1
    log.drop_all(events)  # the history, which has added them
    for number, channel in enumerate(channels, 1):
        held = {each for other in channels[number:] for each in other}
        log.drop_all(channel)
        assert set(log.after(0)) == held
        log.release_some(most)
    while log.has_unheld:
        log.release_some(most)
    assert sorted(released, key=lambda each: each.seq) == events
    assert (len(log), log.bytes) == (0, 0)
