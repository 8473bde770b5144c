"""The events of one channel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.views import Limits, View


def event(number: int) -> Event:
    return Event(EventId.of(number, 0, "node"), b"x")


def test_a_view_is_in_order_also_if_an_event_comes_late() -> None:
    view = View("a", 0, Limits(10, 300))
    events = [event(number) for number in range(1, 5)]
    for index in (0, 2, 3, 1):
        view.append(events[index])
    assert view.events == events
    assert list(view.after(events[1].seq)) == events[2:]
    assert view.place(events[2]) == 2
    assert view.place(event(9)) is None


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 20))
def test_to_pop_oldest_many_is_to_pop_oldest_the_first_so_often(lasting: list[bool], count: int) -> None:
    """lasting: for each event, whether it has no ``ttl``."""
    one, other = [View("a", 0, Limits(100, 300)) for _ in range(2)]
    for number, lasts in enumerate(lasting, 1):
        added = event(number)
        added.ttl = None if lasts else 5.0
        for view in (one, other):
            view.append(added)
    count = min(count, len(lasting))
    assert one.pop_oldest(count) == [other.pop_first() for _ in range(count)]
    assert (one.events, one.bytes, one.floor) == (other.events, other.bytes, other.floor)
