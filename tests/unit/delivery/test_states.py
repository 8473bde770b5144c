"""The states of channels: the newest wins, and all of them are bounded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.publication import publication
from cyclone_sse.delivery.states import STATES_AT_ONCE, States, StatesFigures


def event(number: int, *channels: str, size: int = 1) -> Event:
    return Event(EventId.of(number, 0, "node"), encode("x" * size), channels)


def test_the_newest_event_is_the_state() -> None:
    states = States(10_000)
    for number in (2, 1, 3):
        states.set(event(number, "a", "b") if number < 3 else event(number, "b"))
    assert [one.id.ms for one in states.of("abc")] == [2, 3]
    assert states.get("c") is None
    states.clear("a")
    assert [one.id.ms for one in states.of("ab")] == [3]


def test_what_would_be_too_much_does_not_fit() -> None:
    states = States(10_000)
    states.set(event(1, "a", size=8000))
    assert not states.fit([publication("b", "x" * 2000, keep=True)])
    assert states.fit([publication("b", "x" * 20_000)]), "it is not to be kept"
    assert states.fit([publication("a", "x" * 9000, keep=True)]), "it replaces what is there"
    assert not states.fit(
        [publication("b", "x" * 500, keep=True)] * 1 + [publication("c", "x" * 500, keep=True)]
    )
    assert states.fit([publication("a", "x" * 8500, keep=True)] * 100), "only the last of them stays"


def test_an_event_of_many_channels_is_counted_once() -> None:
    states = States(1 << 20)
    names = [str(number) for number in range(100)]
    assert states.fit([publication(names, "x" * 100_000, keep=True)])
    states.set(event(1, *names, size=100_000))
    assert states.figures().bytes < 200_000
    for name in names:
        states.clear(name)
    assert states.figures().bytes == len(states) == 0


def test_channels_share_what_is_restored_and_it_is_released_with_the_last() -> None:
    states = States(1 << 20)
    states.set(event(2, "new"))
    before = states.figures()
    for name in ("a", "b", "new", "a"):
        states.restore(name, event(1, size=100_000))
    (shared,) = states.of("ab")
    assert list(shared.channels) == ["a", "b"]
    assert states.figures().bytes < 110_000
    states.clear("a")
    states.set(event(3, "b"))
    states.clear("b")
    assert states.figures() == before
    states.restore("c", event(1))
    assert [list(each.channels) for each in states.of("c")] == [["c"]]


script = st.lists(st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 2000)), max_size=30)


@given(script)
def test_whatever_fits_stays_within_the_bound(published: list[tuple[set[str], int]]) -> None:
    states = States(4000)
    for number, (channels, size) in enumerate(published, 1):
        if states.fit([publication(sorted(channels), "x" * size, keep=True)]):
            states.set(event(number, *sorted(channels), size=size))
        assert states.bytes <= 4000


@given(st.lists(script, max_size=5))
def test_a_batch_that_fits_stays_within_the_bound_all_along(
    batches: list[list[tuple[set[str], int]]],
) -> None:
    states, number = States(4000), 0
    for batch in batches:
        if states.fit([publication(sorted(channels), "x" * size, keep=True) for channels, size in batch]):
            for channels, size in batch:
                number += 1
                states.set(event(number, *sorted(channels), size=size))
                assert states.bytes <= 4000


def test_a_state_of_very_many_channels_is_set_in_slices_and_answered_at_once() -> None:
    states = States(1 << 30)
    names = [str(number) for number in range(3 * STATES_AT_ONCE)]
    states.set(event(1, "0", "5"))
    work = states.spread(event(2, *names))
    states.set(event(3, "5"))
    assert [one.id.ms for one in states.of(["0", "5", names[-1]])] == [2, 3]
    sizes = [len(states) for _ in work]
    assert max(after - before for before, after in pairwise(sizes)) <= STATES_AT_ONCE
    assert [one.id.ms for one in states.of(["0", "5", names[-1]])] == [2, 3]
    assert len(states) == len(names)


def test_what_is_cleared_while_a_state_is_set_stays_cleared() -> None:
    states = States(1 << 30)
    names = [str(number) for number in range(3 * STATES_AT_ONCE)]
    work = states.spread(event(1, *names))
    states.clear(names[-1])
    assert states.get(names[-1]) is None
    list(work)
    assert states.get(names[-1]) is None
    assert len(states) == len(names) - 1
    work = states.spread(event(2, *names))
    states.clear_all()
    list(work)
    assert states.figures() == StatesFigures(0, 0)


def test_many_channels_are_looked_at_in_slices() -> None:
    states = States(1 << 30)
    names = [[f"{number}-{part}" for number in range(100)] for part in range(50)]
    publications = [publication(each, "x", keep=True) for each in names]
    assert sum(1 for _ in states.fit_in_slices(publications)) == 5000 // STATES_AT_ONCE
