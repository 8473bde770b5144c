"""Reading the log of all events for patterns: whole, in slices, and with its gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.log_reader import NAMES, LogReader
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.views import Limits


def event(number: int, *channels: str) -> Event:
    return Event(EventId.of(number, 0, "node"), encode(b"x"), channels)


def seq(number: int) -> int:
    return EventId.of(number, 0, "").seq


class Site:
    """A history, and patterns of it."""

    def __init__(self, *patterns: str, size: int = 100) -> None:
        self.history = History(lambda _: Limits(size, 300), 1 << 26, 0, log_losses=True)
        self.index = PatternIndex()
        for name in patterns:
            self.index.add(name)

    def reader(self, *names: str, after: int = 0, ignored: int | None = None) -> LogReader:
        return LogReader(self.history, names, self.index, seq(after), ignored=ignored)


def drain(reader: LogReader) -> tuple[list[int], set[str], int]:
    """The numbers of all events, all gaps, and in how many calls they came."""
    events: list[int] = []
    gaps: set[str] = set()
    for calls in range(1, 10_000):
        new, batch, is_complete = reader.next()
        gaps.update(new)
        events += [one.id.ms for one in batch.events] if batch is not None else []
        if is_complete:
            return events, gaps, calls
    raise AssertionError("it does not come to an end")


def test_it_finds_what_patterns_and_channels_match_each_once() -> None:
    site = Site("news.*", "*.it")
    for number, channels in enumerate(["news.it", "other", "sport.it", "own", "news.fr"], 1):
        site.history.append(event(number, channels), 0)
    site.history.append(event(6, "news.de", "own", "else"), 0)
    assert drain(site.reader("news.*", "own")) == ([1, 4, 5, 6], set(), 1)
    assert drain(site.reader("news.*", "*.it", after=1)) == ([3, 5, 6], set(), 1)


def test_one_call_looks_at_a_bounded_number_of_names() -> None:
    site = Site("user-*")
    for number in range(1, 3 * NAMES):
        site.history.append(event(number, f"other-{number}"), 0)
    site.history.append(event(3 * NAMES, "user-1"), 0)
    events, gaps, calls = drain(site.reader("user-*"))
    assert (events, gaps) == ([3 * NAMES], set())
    assert calls >= 3


def test_an_event_of_very_many_channels_is_looked_at_in_parts() -> None:
    site = Site("user-*", "last-*")
    names = [f"user-{number}" for number in range(3 * NAMES)]
    site.history.append(event(1, *names, "last-1"), 0)
    site.history.append(event(2, "user-1"), 0)
    events, gaps, calls = drain(site.reader("last-*"))
    assert (events, gaps) == ([1], set())
    assert calls >= 3
    assert drain(site.reader("user-*"))[0] == [1, 2]


def test_it_reports_what_its_channels_have_forgotten_and_nothing_else() -> None:
    site = Site("news.*", size=2)
    for number in range(1, 6):
        site.history.append(event(number, "news.it"), 0)
    for number in range(6, 12):
        site.history.append(event(number, "busy"), 0)
    assert drain(site.reader("news.*")) == ([4, 5], {"news.*"}, 1)
    assert drain(site.reader("news.*", after=3)) == ([4, 5], set(), 1)
    assert drain(site.reader("news.*", "busy", after=3)) == ([4, 5, 10, 11], {"busy"}, 1)


def test_what_is_forgotten_while_it_reads_is_reported() -> None:
    site = Site("news.*", size=2)
    for number in range(1, 2 * NAMES):
        site.history.append(event(number, f"other-{number}"), 0)
    start = 2 * NAMES
    site.history.append(event(start, "news.it"), 0)
    reader = site.reader("news.*")
    assert reader.next() == ({}, None, False)
    for number in range(start + 1, start + 4):
        site.history.append(event(number, "news.it"), 0)
    events, gaps, _ = drain(reader)
    assert events == [start + 2, start + 3]
    assert gaps == {"news.*"}


def test_earliest_is_told_only_of_what_is_forgotten_from_now_on() -> None:
    site = Site("news.*", size=1)
    for number in (1, 2):
        site.history.append(event(number, "news.it"), 0)
    assert site.history.losses is not None
    last = site.history.losses.last_key
    assert drain(site.reader("news.*", ignored=last)) == ([2], set(), 1)
    site.history.append(event(3, "news.it"), 0)
    assert drain(site.reader("news.*", ignored=last)) == ([3], {"news.*"}, 1)


def test_of_channels_beside_patterns_only_floors_that_are_not_known_are_told() -> None:
    site = Site("news.*")
    known: dict[str, int | None] = {"a": seq(7)}
    for name in "ab":
        site.history.raise_floor(name, seq(7))
    for expected in ({"b"}, set()):
        reader = LogReader(site.history, ["news.*", "a", "b"], site.index, 0, known=known)
        assert drain(reader) == ([], expected, 1)


script = st.lists(
    st.tuples(st.sets(st.sampled_from(["a.1", "a.2", "b.1", "c"]), min_size=1), st.integers(0, 200)),
    max_size=30,
)


@pytest.mark.slow
@given(script, st.integers(1, 3), st.integers(0, 30))
def test_what_it_gives_of_a_pattern_is_whole_or_told(
    published: list[tuple[set[str], int]], size: int, after: int
) -> None:
    site = Site("a.*", size=size)
    for number, (channels, _) in enumerate(published, 1):
        site.history.append(event(number, *sorted(channels)), 0)
    expected = [
        number
        for number, (channels, _) in enumerate(published, 1)
        if number > after and any(name.startswith("a.") for name in channels)
    ]
    events, gaps, _ = drain(site.reader("a.*", after=after))
    assert set(events) <= set(expected)
    assert events == sorted(events)
    if events != expected:
        assert gaps == {"a.*"}


@pytest.mark.parametrize("wide", [True, False])
def test_the_more_a_name_costs_the_fewer_are_matched_in_one_call(wide: bool) -> None:
    class Costly(PatternIndex):
        compared = 0

        def cost_of(self, channel: str) -> int:
            return NAMES // 10

        def matching(self, channel: str) -> tuple[str, ...]:
            self.compared += 1
            return super().matching(channel)

    site = Site()
    index = site.index = Costly()
    index.add("*7")
    names = [f"user-{number}" for number in range(100)]
    for number, channels in enumerate([names] if wide else [[name] for name in names], 1):
        site.history.append(event(number, *channels), 0)
    reader = site.reader("*7")
    found: list[Event] = []
    for _ in range(20):
        index.compared = 0
        batch = reader.next().batch
        found += batch.events if batch is not None else []
        assert index.compared <= 10
    assert len(found) == (1 if wide else 10)
