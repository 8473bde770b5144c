"""One client of long polling: one answer."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from cyclone_sse.delivery import channel_reader
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Ending
from tests.harness.eventstream import Parser
from tests.unit.delivery.clients import make_hub, turns
from tests.unit.fakes import TurnClock


class Answers:
    """Where the answers of a poll go."""

    def __init__(self, batch: bool = False) -> None:
        self.given: list[bytes] = []
        self.aborted = False
        self.heads = 0
        self.poll = PollClient(self._send_head, self.given.append, self._abort, batch)

    def _send_head(self) -> None:
        self.heads += 1

    def _abort(self) -> None:
        self.aborted = True


def events(*messages: str) -> list[Event]:
    return [Event(EventId.of(1, n, "x"), encode(text)) for n, text in enumerate(messages)]


def test_the_first_event_is_the_answer() -> None:
    answers = Answers()
    assert answers.poll.deliver(events("1", "2")) == (1, 9), "one event, nine bytes"
    assert answers.poll.deliver(events("3")) == (0, 0)
    assert answers.given == [b"data: 1\n\n"]
    assert answers.poll.ending is Ending.ONCE


def test_all_events_are_where_a_batch_is_wanted() -> None:
    answers = Answers(batch=True)
    answers.poll.deliver(events("1", "2"))
    assert answers.given == [b"data: 1\n\ndata: 2\n\n"]


def test_what_is_rendered_to_nothing_is_no_answer() -> None:
    answers = Answers()
    answers.poll.render = lambda some: b"" if some[0].id.n == 0 else some[0].frame
    answers.poll.deliver(events("1"))
    assert answers.given == []
    answers.poll.deliver(events("1", "2"))
    assert answers.given == [b"data: 2\n\n"]


@pytest.mark.parametrize("how", ["end", "abort", "lost"])
def test_it_ends_without_an_event(how: str) -> None:
    answers = Answers()
    if how == "lost":
        answers.poll.lost()
    else:
        getattr(answers.poll, how)(Ending.DRAINED)
    answers.poll.send(b"late")
    assert answers.given == ([b""] if how == "end" else [])
    assert answers.aborted == (how == "abort")
    assert answers.poll.ending is (Ending.LEFT if how == "lost" else Ending.DRAINED)


def test_a_gap_and_the_first_event_after_it_are_one_answer() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    for number in range(3):
        hub.publish(publication("a", str(number)))
    turns(clock)
    answers = Answers()
    hub.subscribe(answers.poll, ["a"], "nonsense")
    answers.poll.open()
    (answer,) = answers.given
    assert answer.index(b"sse-gap") < answer.index(b"data: 0\n\n")
    assert b"data: 1" not in answer


def test_a_gap_and_all_events_after_it_are_one_answer_where_a_batch_is_wanted() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    for number in range(3):
        hub.publish(publication("a", str(number)))
    turns(clock)
    answers = Answers(batch=True)
    hub.subscribe(answers.poll, ["a"], "nonsense")
    answers.poll.open()
    (answer,) = answers.given
    assert [line for line in answer.splitlines() if line.startswith(b"data: ")][1:] == [
        b"data: %d" % number for number in range(3)
    ]


def test_the_gap_of_a_channel_of_which_nothing_is_known_is_told_once() -> None:
    """While a broker is away, say. Without this, a client would poll without a pause."""
    hub = make_hub(TurnClock(), complete=False)
    position = hub.position()
    given = []
    for _ in range(3):
        answers = Answers()
        hub.subscribe(answers.poll, ["a"], position)
        answers.poll.open()
        given.append(answers.given)
        hub.unsubscribe(answers.poll)
        if answers.given:
            position = Parser().feed(answers.given[0])[0].id or ""
    assert [len(each) for each in given] == [1, 0, 0]
    answers = Answers()
    hub.subscribe(answers.poll, ["a"], position)
    answers.poll.open()
    hub.send_gap(["a"])  # the broker is back
    turns(hub._reactor)
    assert b"sse-gap" in answers.given[0]


@pytest.mark.parametrize("size", [2, 10])
@pytest.mark.parametrize("left_out", [(), (0,), (4,), (1, 3), range(5)])
def test_polls_whose_events_are_rendered_are_told_each_gap_once(
    size: int, left_out: Collection[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_reader, "BATCH_EVENTS", size)
    hub = make_hub(TurnClock())
    position = hub.position()
    published = [hub.publish(publication("a", str(number))) for number in range(5)]
    hub.publishing.clear(["b"])
    turns(hub._reactor)
    hidden = [published[number] for number in left_out]
    received: list[str] = []
    for _ in range(10):
        answers = Answers()
        answers.poll.render = lambda some: b"".join(each.frame for each in some if each not in hidden)
        hub.subscribe(answers.poll, ["a", "b"], position)
        answers.poll.open()
        hub.unsubscribe(answers.poll)
        parser = Parser()
        for event in parser.feed(b"".join(answers.given)):
            received.append("gap" if event.type == "sse-gap" else event.data)
        position = parser.last_id or position
    expected = [str(number) for number in range(5) if number not in left_out]
    assert sorted(received) == [*expected, "gap"]


@pytest.mark.parametrize("left_out", [1, 3])
def test_a_gap_before_what_is_rendered_to_nothing_moves_the_client_on(left_out: int) -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    published = [hub.publish(publication("a", str(number))) for number in range(3)]
    turns(clock)
    answers = Answers()
    answers.poll.render = lambda some: b"" if some[0] in published[:left_out] else some[0].frame
    hub.subscribe(answers.poll, ["a"], "nonsense")
    answers.poll.open()
    (answer,) = answers.given
    assert b"id: " in answer, "else each poll would return the same gap"
    assert (b"data: 1\n\n" in answer) == (left_out == 1)


def test_a_poll_for_all_that_is_kept_is_answered_with_the_first_of_later_events() -> None:
    clock = TurnClock()
    hub = make_hub(clock)
    answers = Answers()
    hub.subscribe(answers.poll, ["a"], "earliest")
    answers.poll.open()
    turns(clock)
    for number in range(3):
        hub.publish(publication("a", str(number)))
    turns(clock)
    (answer,) = answers.given
    assert b"data: 0\n" in answer
    assert b"data: 1\n" not in answer


@pytest.mark.parametrize("id", ["earliest", "nonsense"])
def test_an_answer_has_no_more_than_one_piece(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, each poll of a crowd could be sent the whole history, in one turn."""
    monkeypatch.setattr(channel_reader, "BATCH_EVENTS", 3)
    clock = TurnClock()
    hub = make_hub(clock, history_size=5)
    for number in range(6):
        hub.publish(publication("quiet" if number < 5 else "busy", str(number)))
    for number in range(6, 12):
        hub.publish(publication("busy", str(number)))
    turns(clock)
    answers = Answers()
    answers.poll.batch = id == "nonsense"
    hub.subscribe(answers.poll, ["quiet", "busy"], id)
    answers.poll.open()
    (answer,) = answers.given
    assert [number for number in range(12) if b"data: %d\n" % number in answer] == [0, 1, 2]
