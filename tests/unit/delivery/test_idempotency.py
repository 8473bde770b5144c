"""What is published again with the same key is published once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyclone_sse.delivery import idempotency
from cyclone_sse.delivery.idempotency import IdempotencyKeys
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal, Unavailable


class Source:
    """Publishes, at once or on demand."""

    def __init__(self, prompt: bool = True, ttl: float = 300) -> None:
        self.clock = Clock()
        self.keys = IdempotencyKeys(ttl, self.clock)
        self.prompt = prompt
        self.sent: list[Publication] = []
        self.under_way: list[Deferred[Any]] = []

    def take(self, publications: Sequence[Publication]) -> Any:
        self.sent += publications
        ids = [f"id-{len(self.sent) - len(publications) + n}" for n in range(len(publications))]
        if self.prompt:
            return ids
        self.under_way.append(Deferred().addCallback(lambda _: ids))
        return self.under_way[-1]

    def publish(self, *keys: str | None) -> list[Any]:
        """The ids, or the error, when they come."""
        each = [Publication(("a",), b"x", idempotency_key=key) for key in keys]
        answer = self.keys.publish_new(each, self.take)
        if not isinstance(answer, Deferred):
            return list(answer)
        results: list[Any] = []
        answer.addCallbacks(results.extend, lambda failure: results.append(failure.value))
        return results


def test_it_knows_the_keys_with_which_nothing_is_published_now() -> None:
    source = Source(prompt=False)
    assert not source.keys.knows("k")
    source.publish("k")
    assert (source.keys.knows("k"), source.keys.knows("other"), source.keys.knows(None)) == (
        True,
        False,
        False,
    )
    source.under_way[0].callback(None)
    source.clock.advance(299)
    assert source.keys.knows("k")
    source.clock.advance(2)
    assert not source.keys.knows("k")


def test_another_use_of_a_noted_key_does_not_prolong_it() -> None:
    source = Source()
    events = [Publication(("a",), b"x", idempotency_key="k"), Publication(("a",), b"x")]
    for _ in range(2):
        source.keys.note(events, ["id-0", "id-1"])
        source.clock.advance(200)
    assert (source.keys.knows("k"), len(source.keys)) == (False, 1)
    source.keys.note(events, ["id-2", "id-3"])
    assert (source.keys.knows("k"), len(source.keys)) == (True, 1)


def test_very_many_keys_are_noted_in_slices() -> None:
    source = Source()
    events = [Publication(("a",), b"x", idempotency_key=str(n)) for n in range(2 * idempotency.KEYS_PER_TURN)]
    source.keys.note(events, ["id"] * len(events))
    assert not source.keys.knows(events[-1].idempotency_key)
    source.clock.pump([0] * 3)
    assert source.keys.knows(events[-1].idempotency_key)


def test_the_same_key_gets_the_first_answer() -> None:
    source = Source()
    assert source.publish("k", "l") == ["id-0", "id-1"]
    assert source.publish("l", "m", "k", None) == ["id-1", "id-2", "id-0", "id-3"]
    assert source.publish("m") == ["id-2"]
    assert len(source.sent) == 4


def test_a_key_twice_in_one_batch_is_one_event() -> None:
    source = Source()
    assert source.publish("k", "k") == ["id-0", "id-0"]


def test_without_keys_nothing_is_kept() -> None:
    source = Source()
    assert source.publish(None, None) == ["id-0", "id-1"]
    assert len(source.keys) == 0


def test_attempts_that_overlap_wait_for_the_first() -> None:
    source = Source(prompt=False)
    fates = [source.publish("k") for _ in range(20)]
    assert (len(source.sent), fates) == (1, [[]] * 20)
    source.under_way[0].callback(None)
    assert fates == [["id-0"]] * 20


def test_an_attempt_that_fails_is_forgotten() -> None:
    source = Source(prompt=False)
    first, second = source.publish("k"), source.publish("k")
    error = ValueError("away")
    source.under_way[0].errback(error)
    assert (first, second) == ([error], [error])
    source.prompt = True
    assert source.publish("k") == ["id-1"]


def test_an_attempt_fails_with_the_one_that_it_waits_for() -> None:
    source = Source(prompt=False)
    first, second = source.publish("k"), source.publish("k", "l")
    error = ValueError("away")
    source.under_way[0].errback(error)
    source.under_way[1].callback(None)
    assert (first, second) == ([error], [error])


@pytest.mark.parametrize("error", [Unavailable("away", False), Refusal(507, "no room")])
@pytest.mark.parametrize("keys", [("k", None), ("k", "l")])
def test_an_attempt_that_has_published_does_not_say_that_nothing_was(
    error: Exception, keys: tuple[str | None, ...]
) -> None:
    source = Source(prompt=False)
    source.publish("k")
    repeated, mixed = source.publish("k"), source.publish(*keys)
    source.under_way[1].callback(None)
    source.under_way[0].errback(error)
    assert repeated == [error]
    assert [(type(each), each.published) for each in mixed] == [(Unavailable, "unknown")]


def test_a_key_counts_for_its_time() -> None:
    source = Source()
    source.keys.remember("old", "id-old", 299)
    source.keys.remember("older", "id-older", 300)
    assert source.publish("old", "older") == ["id-old", "id-0"]
    source.clock.advance(1)
    assert source.publish("old") == ["id-1"]


def test_a_key_whose_time_is_over_counts_no_more_behind_very_many_others() -> None:
    source = Source()
    keys = [f"k{n}" for n in range(2 * idempotency.KEYS_PER_TURN + 1)]
    for key in keys:
        source.publish(key)
    source.clock.advance(301)
    assert source.publish(keys[-1]) == source.publish(keys[-1]) == [f"id-{len(keys)}"]
    assert source.publish("new") == [f"id-{len(keys) + 1}"]
    assert len(source.keys) == 2


def test_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_IDEMPOTENCY_KEYS", 10)
    source = Source()
    for n in range(100):
        source.publish(f"k{n}")
    assert len(source.keys) <= 10
    assert source.publish("k99") == ["id-99"]


def test_keys_are_bounded_whatever_comes_with_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_IDEMPOTENCY_KEYS", 10_000)
    source = Source()
    for n in range(10):
        source.publish(*[f"{n}-{k}" for k in range(5000)])
        source.clock.advance(0)
        assert len(source.sent) == 5000 * (n + 1)
        assert len(source.keys) <= 10_000


@given(st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=12), st.integers(0, 5))))
def test_a_key_counts_for_its_time_unless_there_are_too_many(steps: list[tuple[list[int], int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idempotency, "MAX_IDEMPOTENCY_KEYS", 12)
        patch.setattr(idempotency, "KEYS_PER_TURN", 3)
        source = Source(ttl=10)
        known: dict[int, tuple[Any, float]] = {}  # the oldest first
        for keys, seconds in steps:
            ids = source.publish(*map(str, keys))
            source.clock.advance(0)
            now = source.clock.seconds()
            for key, id in zip(keys, ids, strict=True):
                before, expires = known.pop(key, (None, 0))
                if expires > now:
                    known[key] = before, expires
                newer = len(known) + len(set(keys))
                assert id == before or expires <= now or newer > 12
                known[key] = id, (expires if id == before else now + 10)
            assert len(source.keys) <= 12
            source.clock.advance(seconds)


def test_the_keys_of_a_large_batch_are_looked_up_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEYS_PER_TURN", 10)
    source = Source()
    there, back = [f"k{n}" for n in range(25)], [f"k{n}" for n in reversed(range(25))]
    first, second = source.publish(*there), source.publish(*back)
    assert len(source.keys) == 20, "ten of each"
    source.clock.advance(0)
    assert first == second[::-1]
    assert sorted(str(each.idempotency_key) for each in source.sent) == sorted(there)


def test_a_large_batch_that_fails_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEYS_PER_TURN", 10)
    source = Source(prompt=False)
    keys = [f"k{n}" for n in range(25)]
    first, second = source.publish(*keys), source.publish(*keys)
    source.clock.advance(0)
    error = ValueError("away")
    for each in source.under_way:
        each.errback(error)
    source.clock.advance(0)
    assert (first, second) == ([error], [error])
    assert len(source.keys) == 0


def test_keys_that_are_too_old_are_forgotten_without_another_request() -> None:
    source = Source()
    source.publish("k", "l")
    source.clock.advance(300)
    source.keys.forget_old()
    assert len(source.keys) == 0


def test_an_attempt_that_hangs_keeps_no_other_key() -> None:
    source = Source(prompt=False)
    source.publish("hangs")
    source.prompt = True
    source.publish("k")
    source.clock.advance(301)
    source.publish("l")
    assert len(source.keys) == 2
    assert len(source.sent) == 3


def test_an_answer_with_too_few_ids_is_a_failure_that_can_be_tried_again() -> None:
    source = Source()
    results: list[Any] = []
    each = [Publication(("a",), b"x", idempotency_key=key) for key in ("k", "l")]
    answer = source.keys.publish_new(each, lambda _: ["one"])
    answer.addCallbacks(results.append, lambda failure: results.append(failure.value))
    assert isinstance(results[0], ValueError)
    assert source.publish("k", "l") == ["id-0", "id-1"]
