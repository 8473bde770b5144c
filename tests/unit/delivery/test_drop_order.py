"""The channels that drop events first: the largest, or the one that was quiet for longest."""

from __future__ import annotations

from cyclone_sse.delivery.drop_order import ByAge, BySize
from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.views import Limits, View


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


def view(name: str, ttl: float, number: int) -> View:
    """A channel with one event, which was published at the second of this number."""
    made = View(name, 0, Limits(10, ttl))
    event = Event(EventId.of(number, 0, "node"), b"x")
    event.published_at = float(number)
    made.append(event)
    return made


def test_the_channel_that_was_quiet_for_longest_is_found_whatever_its_ttl() -> None:
    ages = ByAge()
    assert ages.least_recent() is None
    one, two, three = view("one", 100, 1), view("two", 50, 2), view("three", 100, 3)
    for each in (one, two, three):
        ages.add(each)
    assert ages.least_recent() is one
    assert ages.names() == ["one", "three", "two"]
    ages.remove(one)
    assert ages.least_recent() is two
    two.append(view("", 50, 4).events[0])
    ages.renew(two)
    assert ages.least_recent() is three


def test_a_channel_all_of_whose_events_are_too_old_is_found() -> None:
    ages = ByAge()
    long, short = view("long", 100, 1), view("short", 50, 2)
    ages.add(long)
    ages.add(short)
    assert ages.overdue(51) is None
    assert ages.overdue(52) is short
    ages.remove(short)
    assert ages.overdue(100) is None
    assert ages.overdue(101) is long
