"""What channels brought: in bounded pieces, and the same question has one answer."""

from __future__ import annotations

from cyclone_sse.delivery.batch import BATCH_EVENTS
from cyclone_sse.delivery.channel_reader import Answers, ChannelReader
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.views import Limits


def past(events: int) -> History:
    history = History(lambda _: Limits(10_000, 100), 1 << 30, start=0)
    for number in range(1, events + 1):
        eid = EventId.of(number, 0, "node")
        history.append(Event(eid, encode("x", eid), ("a",)), 0)
    return history


def test_a_long_past_is_answered_in_bounded_pieces() -> None:
    history = past(2 * BATCH_EVENTS + 1)
    reader = ChannelReader(Answers(history, lambda: 0.0), ["a", "b"], 0, {})
    sizes, complete = [], False
    while not complete:
        _, batch, complete = reader.next()
        sizes.append(0 if batch is None else len(batch.events))
    assert sizes == [BATCH_EVENTS, BATCH_EVENTS, 1]


def test_the_same_question_has_one_answer_until_something_is_published() -> None:
    history = past(3)
    answers = Answers(history, lambda: 0.0)
    after = EventId.of(1, 0, "node").seq
    first, second = (ChannelReader(answers, ["a"], after, {}).next().batch for _ in range(2))
    assert first is not None
    assert first is second
    eid = EventId.of(9, 0, "node")
    history.append(Event(eid, encode("x", eid), ("a",)), 0)
    third = ChannelReader(answers, ["a"], after, {}).next().batch
    assert third is not None
    assert [event.id.ms for event in third.events] == [2, 3, 9]
