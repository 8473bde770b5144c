"""The events of one channel, and the channels by size."""

from __future__ import annotations

from collections import OrderedDict

from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.views import BySize, Limits, View


def event(number: int) -> Event:
    return Event(EventId.of(number, 0, "node"), b"x")


def test_a_view_is_in_order_also_if_an_event_comes_late() -> None:
    view = View("a", 0, Limits(10, 300), OrderedDict())
    events = [event(number) for number in range(1, 5)]
    for index in (0, 2, 3, 1):
        view.append(events[index])
    assert view.events == events
    assert list(view.after(events[1].seq)) == events[2:]
    assert view.place(events[2]) == 2
    assert view.place(event(9)) is None


def test_one_of_the_largest_channels_is_found() -> None:
    sizes = BySize()
    assert sizes.largest() is None
    for name, size in (("small", 10), ("large", 5000), ("medium", 200)):
        sizes.set(name, size)
    assert sizes.largest() == "large"
    sizes.set("large", 1)
    assert sizes.largest() == "medium"
    for name in ("large", "medium", "small"):
        sizes.discard(name)
    assert sizes.largest() is None


def test_of_channels_of_one_size_the_first_is_found_however_many_were_removed() -> None:
    sizes = BySize()
    names = [str(number) for number in range(1000)]
    for name in names:
        sizes.set(name, 100)
    for name in names:
        assert sizes.largest() == name
        sizes.discard(name)
