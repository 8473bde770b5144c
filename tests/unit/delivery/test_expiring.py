"""Events with an end of their own: each channel of each is given once, and never very many in one call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId
from cyclone_sse.delivery.expiring import Expiring


def event(number: int, ttl: float | None, channels: int) -> Event:
    made = Event(EventId.of(number, 0, "node"), b"x", [f"{number}-{each}" for each in range(channels)])
    made.ttl = ttl
    return made


def test_an_event_without_an_end_does_not_end() -> None:
    expiring = Expiring()
    expiring.set(event(1, None, 3))
    assert expiring.pop_over(1e9, 10) == []


def test_an_event_that_is_gone_is_forgotten() -> None:
    expiring, gone = Expiring(), event(1, 5.0, 3)
    expiring.set(gone)
    expiring.clear(gone)
    assert expiring.pop_over(10, 10) == []


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 10)), max_size=10), st.integers(1, 5))
def test_each_channel_is_given_once(given: list[tuple[float, int]], most: int) -> None:
    """given: the ttl and the number of channels of each event."""
    expiring = Expiring()
    events = [event(number, ttl, channels) for number, (ttl, channels) in enumerate(given, 1)]
    for each in events:
        expiring.set(each)
    found: list[str] = []
    assert not expiring.has_over(-1)
    while expiring.has_over(30):
        part = expiring.pop_over(30, most)
        assert len(part) <= most
        found += [name for _, name in part]
    assert sorted(found) == sorted(name for each in events for name in each.channels)
