"""Bounded memory: what it holds, what it tells is missing, and that its bounds hold."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery import history as module
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.history import History


def event(number: int, size: int = 0) -> Event:
    return Event(EventId(number, 0, "node"), encode("x" * size))


def make_history(
    size: int = 100, ttl: float = 300.0, max_bytes: int = 1 << 26, start: int | None = None
) -> History:
    return History(size, ttl, max_bytes, start)


def numbers(events: Iterable[Event]) -> list[int]:
    return [one.id.ms for one in events]


def seq(number: int) -> int:
    return event(number).seq


def test_each_channel_keeps_its_last_events_only() -> None:
    history = make_history(size=2, start=0)
    for number in (1, 2, 3):
        history.append("a", event(number), 0)
    history.append("b", event(4), 0)
    assert numbers(history.since(-1, ["a", "b"], 0)) == [2, 3, 4]
    assert history.gaps(seq(1), ["a", "b"], 0) == []
    assert history.gaps(seq(1) - 1, ["a", "b"], 0) == ["a"]


def test_events_of_several_channels_come_in_order_and_once() -> None:
    history = make_history(start=0)
    for number, channels in enumerate(["a", "ab", "b", "c", "ba"]):
        for channel in channels:
            history.append(channel, event(number), 0)
    assert numbers(history.since(seq(0), ["b", "a", "a"], 0)) == [1, 2, 4]


def test_old_events_are_forgotten_and_that_is_told() -> None:
    history = make_history(ttl=10, start=0)
    history.append("a", event(1), 0)
    history.append("a", event(2), 5)
    assert numbers(history.since(0, ["a"], 9.9)) == [1, 2]
    assert numbers(history.since(0, ["a"], 10)) == [2]
    assert history.gaps(0, ["a"], 10) == ["a"]
    assert history.gaps(seq(1), ["a"], 10) == []
    history.sweep(15)
    assert numbers(history.since(0, ["a"], 15)) == []
    assert history.gaps(seq(1), ["a"], 15) == ["a"]
    assert history.gaps(seq(2), ["a"], 15) == []
    assert history.bytes == 0


def test_the_least_recently_published_channel_goes_first_where_each_has_one_event() -> None:
    history = make_history(max_bytes=3000, start=0)
    for number, channel in enumerate("abc", start=1):
        history.append(channel, event(number, 100), 0)
    history.append("d", event(4, 100), 0)
    assert numbers(history.since(0, list("abcd"), 0)) == [2, 3, 4]
    assert history.gaps(seq(0), list("abcd"), 0) == ["a"]


def test_the_largest_channel_gives_up_its_oldest_first_and_the_newest_stays() -> None:
    history = make_history(max_bytes=10_000, start=0)
    history.append("quiet", event(1, 100), 0)
    history.append("quiet", event(2, 100), 0)
    for number in range(3, 30):
        history.append("busy", event(number, 3000), 0)
        assert numbers(history.since(0, ["busy"], 0))[-1] == number
    assert numbers(history.since(0, ["quiet"], 0)) == [1, 2]
    assert history.bytes <= 10_000
    history.append("huge", event(30, 20_000), 0)
    assert numbers(history.since(0, ["huge"], 0)) == [30]


def test_an_event_of_many_channels_is_counted_once() -> None:
    history = make_history(start=0)
    one = event(1, 10_000)
    for number in range(100):
        history.append(str(number), one, 0)
    assert history.events == 1
    assert history.bytes < 10_000 + 100 * 1000
    for number in range(100):
        history.forget(str(number))
    assert history.bytes == history.events == 0


def test_nothing_is_complete_before_the_upstream_says_so() -> None:
    history = make_history(start=None)
    history.append("a", event(1), 0)
    assert history.gaps(seq(9), ["a", "b"], 0) == ["a", "b"]
    for channel in "ab":
        history.raise_floor(channel, seq(5))
    assert history.gaps(seq(5), ["a", "b"], 0) == []
    assert history.gaps(seq(4), ["a", "b"], 0) == ["a", "b"]
    history.raise_floor("a", seq(3))
    assert history.floor("a") == seq(5), "a floor never falls"
    history.forget("a")
    assert history.gaps(seq(9), ["a"], 0) == ["a"]
    assert numbers(history.since(0, ["a"], 0)) == []


def test_floors_of_many_channels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    history = make_history(size=0, start=0)
    monkeypatch.setattr(module, "FLOORS", 3)
    for number in range(1, 6):
        history.append(str(number), event(number), 0)
    assert len(history._floors) == 3
    assert history.gaps(seq(2), ["never heard of"], 0) == []
    assert history.gaps(seq(1), ["1", "never heard of"], 0) == ["1", "never heard of"], "better told"


published = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcd"), min_size=1, unique=True), st.integers(0, 500), st.integers(0, 3)
    )
)


@given(published, st.integers(0, 5), st.sampled_from([2.0, 100.0]), st.sampled_from([2500, 100_000]))
def test_what_it_gives_is_whole_or_told(
    script: list[tuple[list[str], int, int]], size: int, ttl: float, most: int
) -> None:
    history = History(size, ttl, most, start=0)
    past: list[tuple[list[str], int]] = []
    now = 0
    for number, (channels, length, pause) in enumerate(script, start=1):
        now += pause
        for channel in channels:
            history.append(channel, event(number, length), now)
            assert history.bytes <= most or len(history._past) == 1
        past.append((channels, number))
        history.sweep(now)
    for since in range(len(script) + 1):
        for channel in "abcd":
            expected = [number for channels, number in past if channel in channels and number > since]
            given = numbers(history.since(seq(since), [channel], now))
            assert given == expected[len(expected) - len(given) :]
            if given != expected:
                assert history.gaps(seq(since), [channel], now) == [channel]
    for channel in "abcd":
        history.forget(channel)
    assert history.bytes == 0
