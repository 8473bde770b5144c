"""Bounded memory: what it holds, the gaps that it reports, and that its bounds hold."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.losses import Loss
from cyclone_sse.delivery.views import Limits
from cyclone_sse.slices import MANY


def event(number: int, size: int = 0, channels: Iterable[str] = ("a",)) -> Event:
    return Event(EventId.of(number, 0, "node"), encode("x" * size), tuple(channels))


def make_history(
    size: int = 100,
    ttl: float = 300.0,
    max_bytes: int = 1 << 26,
    start: int | None = 0,
    log_losses: bool = False,
) -> History:
    return History(lambda _: Limits(size, ttl), max_bytes, start, log_losses)


def numbers(events: Iterable[Event]) -> list[int]:
    return [one.id.ms for one in events]


def seq(number: int) -> int:
    return event(number).seq


def since(history: History, number: int, channels: Iterable[str], now: float = 0) -> list[int]:
    """What the channels brought after that event."""
    _, missed = history.missed(seq(number), tuple(channels), now)
    return numbers(history.since(seq(number), missed))


def losses(history: History, number: int) -> list[Loss]:
    """What was forgotten since that event."""
    assert history.losses is not None
    return [loss for _, loss in history.losses.after(history.losses.key_at(seq(number)))]


def gaps(history: History, number: int, channels: Iterable[str], now: float = 0) -> list[str]:
    return list(history.missed(seq(number), tuple(channels), now)[0])


def test_each_channel_keeps_its_last_events_only() -> None:
    history = make_history(size=2)
    for number in (1, 2, 3):
        history.append(event(number), 0)
    history.append(event(4, channels="b"), 0)
    assert since(history, 0, "ab") == [2, 3, 4]
    assert gaps(history, 1, "ab") == []
    assert gaps(history, 0, "ab") == ["a"]


def test_events_of_several_channels_come_in_order_and_once() -> None:
    history = make_history()
    for number, channels in enumerate(["a", "ab", "b", "c", "ba"], 1):
        history.append(event(number, channels=channels), 0)
    assert since(history, 1, ["b", "a", "a"]) == [2, 3, 5]


def test_old_events_are_forgotten_and_that_is_reported() -> None:
    history = make_history(ttl=10)
    history.append(event(1), 0)
    history.append(event(2), 5)
    assert since(history, 0, "a", 9.9) == [1, 2]
    assert since(history, 0, "a", 10) == [2]
    assert gaps(history, 0, "a", 10) == ["a"]
    assert gaps(history, 1, "a", 10) == []
    history.forget_old(15)
    assert since(history, 0, "a", 15) == []
    assert gaps(history, 1, "a", 15) == ["a"]
    assert gaps(history, 2, "a", 15) == []
    assert history.bytes == 0


def test_what_expires_between_two_questions_is_not_hidden() -> None:
    """The events and the gaps of one answer are of the same moment."""
    history = make_history(ttl=10)
    history.append(event(1), 0)
    found, missed = history.missed(seq(0), ("a",), 10)
    assert (list(found), missed) == (["a"], ())


def test_a_channel_of_which_everything_has_expired_goes_on() -> None:
    history = make_history(ttl=10)
    history.append(event(1), 0)
    assert gaps(history, 0, "a", 10) == ["a"]
    assert history.figures().channels == 0
    history.forget_old(20)
    history.append(event(2), 20)
    history.append(event(3, 1000, "b"), 20)
    assert since(history, 1, "ab", 20) == [2, 3]


def test_the_least_recently_published_channel_goes_first_where_each_has_one_event() -> None:
    history = make_history(max_bytes=3000)
    for number, channel in enumerate("abc", start=1):
        history.append(event(number, 100, channel), 0)
    history.append(event(4, 100, "d"), 0)
    assert since(history, 0, "abcd") == [2, 3, 4]
    assert gaps(history, 0, "abcd") == ["a"]


def test_the_largest_channel_gives_up_its_oldest_first_and_the_newest_stays() -> None:
    history = make_history(max_bytes=10_000)
    history.append(event(1, 100, ["quiet"]), 0)
    history.append(event(2, 100, ["quiet"]), 0)
    for number in range(3, 30):
        history.append(event(number, 3000, ["busy"]), 0)
        assert since(history, 0, ["busy"])[-1] == number
    assert since(history, 0, ["quiet"]) == [1, 2]
    assert history.bytes <= 10_000
    history.append(event(30, 20_000, ["huge"]), 0)
    assert since(history, 0, ["huge"]) == [30]


def test_an_event_of_many_channels_is_counted_once() -> None:
    history = make_history()
    history.append(event(1, 10_000, map(str, range(100))), 0)
    assert history.events == 1
    assert history.bytes < 10_000 + 100 * 1000
    for number in range(100):
        history.forget(str(number))
    assert history.bytes == history.events == 0


def test_what_is_forgotten_is_freed_at_once() -> None:
    """Not when more than half of a channel is forgotten: that held ten times --history-bytes."""
    history = make_history(max_bytes=20_000)
    alive = []
    for number in range(1, 101):
        one = event(number, 1000)
        alive.append(weakref.ref(one))
        history.append(one, 0)
    del one
    gc.collect()
    held = [each() for each in alive if each() is not None]
    assert len(held) == history.events < 20
    assert sum(len(each.frame) for each in held if each) < history.bytes <= 20_000


def test_the_names_of_channels_count() -> None:
    history = make_history(max_bytes=100_000)
    for number in range(1, 500):
        history.append(event(number, 1, [f"{number} {'x' * 2000}"]), 0)
    assert history.bytes <= 100_000
    assert history.figures().channels < 50


def test_all_events_of_a_channel_share_one_copy_of_its_name() -> None:
    history = make_history()
    for number in range(1, 10):
        history.append(event(number, channels=["".join(["na", "me"])]), 0)
    assert len({id(one.channels[0]) for one in history.log_after(0)}) == 1


def test_a_channel_is_complete_when_the_upstream_says_so() -> None:
    history = make_history(start=None)
    history.append(event(1), 0)
    assert gaps(history, 9, "ab") == ["a", "b"]
    for channel in "ab":
        history.raise_floor(channel, seq(5))
    assert gaps(history, 5, "ab") == []
    assert gaps(history, 4, "ab") == ["a", "b"]
    history.raise_floor("a", seq(3))
    assert history.floor("a") == seq(5), "a floor never falls"
    history.forget("a")
    assert gaps(history, 9, "a") == ["a"]
    assert since(history, 0, "a") == []


@pytest.mark.parametrize("ttl", [300.0, 200.0])
def test_after_limits_are_renewed_the_oldest_channels_are_still_dropped_first(ttl: float) -> None:
    limits = [Limits(100, 300.0)]
    history = History(lambda _: limits[0], 1 << 26, 0)
    for number, channel in enumerate("abcda", 1):
        history.append(event(number, channels=channel), number)
    limits[0] = Limits(100, ttl)
    for _ in history.renew_limits():
        pass
    left = []
    for number in (1, 2, 3, 4, 5):
        history.forget_old(number + ttl)
        left.append(history.figures().channels)
    assert left == [4, 3, 2, 1, 0]


def test_floors_of_many_channels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    history = make_history(size=0)
    monkeypatch.setattr("cyclone_sse.delivery.floors.FLOORS", 3)
    for number in range(1, 6):
        history.append(event(number, channels=str(number)), 0)
    assert history.figures().floors == 3
    assert gaps(history, 2, ["unknown"]) == []
    assert gaps(history, 1, ["1", "unknown"]) == ["1", "unknown"], "rather one too many"


def test_an_event_of_very_many_channels_is_in_every_answer_before_they_all_have_it() -> None:
    history = make_history()
    names = [str(number) for number in range(3 * MANY)]
    spread = history.spread(event(1, channels=names), 0)
    history.append(event(2, channels=names[-1:]), 0)
    assert since(history, 0, [names[0], names[-1]]) == [1, 2]
    slices = 1 + sum(1 for _ in spread)
    assert slices == 3
    assert since(history, 0, names[-1:]) == [1, 2], "in order, though it came late"
    assert history.figures().events == 2
    for name in names:
        history.forget(name)
    assert history.bytes == 0


def test_the_channels_of_many_events_that_are_spread_are_found_in_as_many_steps_as_there_are() -> None:
    compared = [0]

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            compared[0] += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    history = make_history()
    names = [Name(number) for number in range(300)]
    history.append(event(1, channels=names[7:8]), 0)
    for number in range(2, 12):
        history.spread(event(number, channels=[str(name) for name in names[:-1]]), 0)
    compared[0] = 0
    _, missed = history.missed(0, tuple(names), 0)
    assert list(missed) == [names[7], *names[:7], *names[8:-1]]
    assert compared[0] <= 20 * len(names)


@pytest.mark.parametrize("newer", [True, False])
def test_a_channel_that_is_cleared_while_an_event_is_spread_does_not_get_it_back(newer: bool) -> None:
    history = make_history()
    names = [str(number) for number in range(3 * MANY)]
    spread = history.spread(event(1, channels=names), 0)
    history.clear_channel(names[-1], seq(2))
    if newer:
        history.append(event(3, channels=names[-1:]), 0)
    assert since(history, 0, names[-1:]) == [3] * newer
    for _ in spread:
        pass
    assert since(history, 0, names[-1:]) == [3] * newer
    assert gaps(history, 1, names[-1:]) == names[-1:]
    assert since(history, 0, names[:1]) == [1]


def test_an_event_that_is_larger_than_the_limit_leaves_nothing_to_be_forgotten() -> None:
    history = make_history(max_bytes=1000)
    history.append(event(1, 2000), 0)
    assert not history.is_overfull
    assert since(history, 0, "a") == [1]


def test_what_is_dropped_all_at_once_is_freed_in_several_calls() -> None:
    history, held = make_history(), weakref.WeakSet[Event]()
    for number in range(1, 3 * MANY):
        held.add(one := event(number, channels=(str(number),)))
        history.append(one, 0)
    del one
    gc.disable()
    try:
        history.clear(seq(10_000))
        left = [len(held)]
        while history.forget_old(0):
            left.append(len(held))
        assert len(left) == 3
        assert all(before - after <= MANY for before, after in pairwise(left))
        assert not held, "without a collection of garbage"
    finally:
        gc.enable()


def test_an_event_that_came_late_to_channels_does_not_keep_them_from_being_dropped() -> None:
    history = make_history(max_bytes=100_000)
    names = [str(number) for number in range(3 * MANY)]
    spread = history.spread(event(1, channels=names), 0)
    next(spread)
    history.append(event(2, channels="x"), 0)
    for _ in spread:
        pass
    for _ in range(20):
        history.forget_old(0)
    assert not history.is_overfull
    assert history.bytes <= 100_000
    assert since(history, 0, "x") == [2]


def test_an_event_is_dropped_with_its_ttl_also_in_channels_that_it_reached_later() -> None:
    history = make_history()
    names = [str(number) for number in range(3 * MANY)]
    short = event(1, channels=names)
    short.ttl = 1.0
    spread = history.spread(short, 0)
    next(spread)
    for _ in range(5):
        history.forget_old(5)
    for _ in spread:
        pass
    for _ in range(5):
        history.forget_old(5)
    assert since(history, 0, names[-1:], 5) == []
    assert history.bytes == 0


@pytest.mark.parametrize("slices", [0, 1])
def test_to_drop_everything_between_two_slices_ends_the_spreading(slices: int) -> None:
    history = make_history()
    names = [str(number) for number in range(2 * MANY)]
    spread = history.spread(event(9, channels=names), 0)
    for _ in range(slices):
        next(spread)
    history.clear(seq(5))  # as when ids are reset, from which lower ones may follow
    assert list(spread) == []
    assert history.bytes == 0
    assert since(history, 0, names[:1]) == []
    assert history.missed(seq(6), names[:1], 0) == ([], ())


def test_events_with_a_ttl_are_dropped_as_fast_as_they_come() -> None:
    history = make_history()
    count = 5 * MANY
    for number in range(1, count + 1):
        short = event(number, channels=[str(number)])
        short.ttl = 1.0
        history.append(short, 0)
    calls = 1
    while history.forget_old(5):
        calls += 1
        assert calls < 100
    assert (history.events, history.bytes) == (0, 0)
    assert calls > 5, "in slices"


@pytest.mark.parametrize("how", ["expired", "cleared", "of one age"])
def test_very_many_events_are_freed_in_several_calls(how: str) -> None:
    released: list[Event] = []
    history = make_history(size=100_000, ttl=10)
    history.on_forgotten = released.append
    names = "a" if how != "of one age" else [str(number) for number in range(100)]
    count = 5 * MANY
    for number in range(1, count + 1):
        history.append(event(number, channels=(names[number % len(names)],)), 0)
    if how == "cleared":
        history.clear_channel("a", seq(count))
    calls, before = 0, 0
    while history.forget_old(10):
        calls += 1
        assert len(released) - before <= 2 * MANY
        before = len(released)
    assert calls >= 3
    assert len(released) == count
    assert history.bytes == 0


def test_a_channel_that_is_cleared_keeps_what_came_after() -> None:
    history = make_history()
    for number in (1, 2, 3):
        history.append(event(number), 0)
    history.clear_channel("a", seq(2))
    assert since(history, 0, "a") == [3]
    assert gaps(history, 1, "a") == ["a"]
    assert gaps(history, 2, "a") == []


def test_who_reads_the_log_is_not_given_what_was_cleared() -> None:
    history = make_history()
    for number in range(1, 101):
        history.append(event(number, channels="ab" if number == 50 else "a"), 0)
    history.clear_channel("a", seq(100))
    assert [each.id.ms for each in history.log_after(0)] == [50]


def test_what_is_too_much_to_forget_in_one_call_is_left_to_the_next() -> None:
    history = make_history(max_bytes=2_000_000)
    names = [str(number) for number in range(5 * MANY)]
    for _ in history.spread(event(1, channels=names), 0):
        pass
    history.append(event(2, 1_500_000), 0)
    assert history.is_overfull
    for _ in range(10):
        history.forget_old(0)
    assert not history.is_overfull
    assert since(history, 0, "a") == [2]


def test_losses_are_read_from_a_position_on() -> None:
    history = make_history(size=1, log_losses=True)
    for number in range(1, 5):
        history.append(event(number, channels="ab" if number == 3 else "a"), 0)
    assert losses(history, 0) == [("a", seq(3))], "the last of each channel"
    assert losses(history, 4) == []


def test_an_event_whose_own_time_is_over_is_forgotten_and_leaves_no_gap() -> None:
    history = make_history(log_losses=True)
    for number in range(1, 5):
        one = event(number, channels="ab")
        one.ttl = 10.0 if number in (2, 4) else None
        history.append(one, 0)
    assert since(history, 0, "a", 9) == [1, 2, 3, 4]
    assert since(history, 0, "ab", 10.1) == [1, 3]
    assert gaps(history, 0, "ab", 10.1) == []
    assert history.events == 2
    assert losses(history, 0) == []
    history.forget("a")
    history.forget("b")
    assert history.bytes == 0


def test_an_event_with_an_end_leaves_no_gap_when_it_has_to_make_room() -> None:
    history = make_history(size=1)
    one = event(1)
    one.ttl = 100.0
    history.append(one, 0)
    history.append(event(2), 0)
    assert since(history, 0, "a") == [2]
    assert gaps(history, 0, "a") == []


def test_limits_that_change_apply_to_what_is_held() -> None:
    limits = {"a": Limits(10, 300)}
    history = History(lambda name: limits.get(name, Limits(10, 300)), 1 << 20, 0)
    for number in range(1, 6):
        history.append(event(number, channels="ab"), 0)
    limits["a"] = Limits(2, 10)
    for _ in history.renew_limits():
        pass
    assert since(history, 0, "a") == [4, 5]
    assert since(history, 0, "a", 11) == []
    assert since(history, 0, "b", 11) == [1, 2, 3, 4, 5]


published = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcd"), min_size=1, unique=True), st.integers(0, 500), st.integers(0, 3)
    )
)


@given(published, st.integers(0, 5), st.sampled_from([2.0, 100.0]), st.sampled_from([2500, 100_000]))
def test_what_it_gives_is_whole_or_told(
    script: list[tuple[list[str], int, int]], size: int, ttl: float, most: int
) -> None:
    history = make_history(size, ttl, most, log_losses=True)
    past: list[tuple[list[str], int]] = []
    now = 0
    for number, (channels, length, pause) in enumerate(script, start=1):
        now += pause
        history.append(event(number, length, channels), now)
        assert history.bytes <= most or history.events == 1
        past.append((channels, number))
        history.forget_old(now)
    for after in range(len(script) + 1):
        for channel in "abcd":
            expected = [number for channels, number in past if channel in channels and number > after]
            given = since(history, after, channel, now)
            assert given == expected[len(expected) - len(given) :]
            lost = {loss.channel for loss in losses(history, after) if loss.floor > seq(after)}
            if given != expected:
                assert gaps(history, after, channel, now) == [channel]
                assert channel in lost
    for channel in "abcd":
        history.forget(channel)
    assert history.bytes == history.events == 0
