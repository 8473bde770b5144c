"""Clients of patterns that reconnect: what they missed comes in slices, and the seam to live events holds."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.delivery.events import GAP_TYPE
from cyclone_sse.delivery.log_reader import NAMES, LogReader
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Ending
from tests.harness.eventstream import Parser
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def test_a_pattern_hears_its_channels_live_and_later(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    client = Recorder()
    hub.subscribe(client, ["news.*"])
    for channel in ("news.it", "other", "news.fr"):
        hub.publish(publication(channel, channel))
    hub.publish(publication(["news.de", "news.*", "x"], "both"))
    turns(clock)
    assert client.data == ["news.it", "news.fr", "both"]
    hub.unsubscribe(client)
    back = Recorder()
    hub.subscribe(back, ["news.*"], before)
    assert back.data == client.data
    hub.publish(publication("news.it", "live"))
    turns(clock)
    assert back.data == [*client.data, "live"]


@pytest.mark.parametrize("names", [["room-*"], ["room-1", "x*"]])
def test_what_was_cleared_is_not_sent_though_another_channel_has_it(
    clock: TurnClock, names: list[str]
) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    hub.publish(publication(["room-1", "other"], "secret"))
    hub.publish(publication("room-1", "secret, too"))
    hub.publishing.clear(["room-1"])
    hub.publish(publication(["room-1", "other"], "after"))
    turns(clock)
    client = Recorder()
    hub.subscribe(client, names, before)
    turns(clock)
    assert GAP_TYPE.encode() in client.got[0]
    assert client.data[1:] == ["after"]
    other = Recorder()
    hub.subscribe(other, ["oth*"], before)
    assert other.data == ["secret", "after"]


def test_with_fields_the_pattern_is_named_live_and_later(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    hub.publish(publication("news.it", "before"))
    client = Recorder()
    client.fields = True
    hub.subscribe(client, ["news.*", "own"], before)
    hub.publish(publication(["news.it", "own"], "live"))
    turns(clock)
    lines = b"".join(client.got).decode().splitlines()
    assert [line for line in lines if line.startswith(("channel", "data"))] == [
        "channel: news.*",
        "data: before",
        "channel: news.*",
        "channel: own",
        "data: live",
    ]


def test_a_long_log_is_read_in_slices_and_meanwhile_events_go_on(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    hub.publish(publication("user-1", "first"))
    for number in range(5 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    hub.publish(publication("user-2", "second"))
    turns(clock)
    client, other = Recorder(), Recorder()
    hub.subscribe(other, ["live"])
    hub.subscribe(client, ["user-*"], before)
    hub.publish(publication("live", "now"))
    hub.publish(publication("user-3", "third"))
    clock.turn()
    assert other.data == ["now"], "it does not wait for the log to be read"
    assert client.data == ["first"]
    assert turns(clock) >= 3
    assert client.data == ["first", "second", "third"]
    hub.publish(publication("user-1", "fourth"))
    turns(clock)
    assert client.data[3:] == ["fourth"]


@pytest.mark.parametrize("batch", [True, False])
def test_a_poll_is_answered_when_the_log_has_been_read(clock: TurnClock, batch: bool) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    for number in range(3 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    for text in ("first", "second"):
        hub.publish(publication("user-2", text))
    turns(clock)
    answers: list[bytes] = []
    poll = PollClient(lambda: None, answers.append, lambda: None, batch)
    hub.subscribe(poll, ["user-*"], before)
    poll.open()
    turns(clock)
    (answer,) = answers
    assert b"data: first\n" in answer
    assert (b"data: second\n" in answer) == batch


def test_a_gap_with_nothing_after_it_brings_an_id(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex(), history_ttl=10)
    before = hub.position()
    hub.publish(publication("user-1", "old"))
    clock.advance(11)
    hub.history.forget_old(clock.seconds())
    client = Recorder()
    hub.subscribe(client, ["user-*", "quiet"], before)
    assert client.data == ['{"channels": ["user-*"]}']
    assert client.got[0].startswith(b"id: ")
    assert f"event: {GAP_TYPE}".encode() in client.got[0]


def test_who_leaves_while_the_log_is_read_is_forgotten(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    for number in range(3 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    client = socket_client(FakeSocket())
    hub.subscribe(client, ["user-*"], before)
    client.open()
    client.lost()
    hub.unsubscribe(client)
    assert turns(clock) < 10
    assert hub.stats() == []


def test_a_long_reading_does_not_delay_the_next_client(clock: TurnClock) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    for number in range(20 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    near = hub.position()
    for number in range(2 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    hub.publish(publication("user-1", "last"))
    turns(clock)
    long, short = Recorder(), Recorder()
    hub.subscribe(long, ["user-*"], before)
    hub.subscribe(short, ["user-*"], near)
    taken = 0
    while not short.data:
        clock.turn()
        taken += 1
    assert taken < 10
    assert long.data == []
    turns(clock)
    assert long.data == short.data == ["last"]


def test_a_client_whose_past_cannot_be_read_is_ended_and_the_others_go_on(
    clock: TurnClock, failures: list[Any]
) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    for number in range(3 * NAMES):
        hub.publish(publication(f"other-{number}", "x"))
    hub.publish(publication("user-1", "last"))
    turns(clock)
    broken, whole = Recorder(), Recorder()
    broken.render, broken.shares_frames = lambda events: b"%d" % (1 // 0), False
    for client in (broken, whole):
        hub.subscribe(client, ["user-*"], before)
    turns(clock)
    assert len(failures) == 1
    assert broken.ending is Ending.FAILED
    hub.unsubscribe(broken)
    assert hub.counters.disconnects["failed"] == 1
    assert whole.data == ["last"]
    hub.publish(publication("user-2", "live"))
    turns(clock)
    assert whole.data == ["last", "live"]


def test_the_log_is_read_for_one_client_a_turn_however_many_come_at_once(
    clock: TurnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(clock, patterns=PatternIndex())
    for number in range(2 * NAMES):
        hub.publish(publication(f"user-{number}", str(number)))
    turns(clock)
    reads = [0]
    read = LogReader.next

    def count(reader: LogReader) -> Any:
        reads[-1] += 1
        return read(reader)

    monkeypatch.setattr(LogReader, "next", count)
    sockets = [FakeSocket() for _ in range(10)]
    for number, socket in enumerate(sockets):
        client = socket_client(socket)
        hub.subscribe(client, [f"*{number}"], "earliest")
        client.open()
    hub.publish(publication("user-live-0", "live"))
    while any(call.getTime() <= clock.seconds() for call in clock.calls):
        reads.append(0)
        clock.turn()
    assert max(reads) == 1
    for number, socket in enumerate(sockets):
        lines = bytes(socket.received).decode().splitlines()
        wanted = [f"data: {each}" for each in range(number, 2 * NAMES, 10)]
        assert [line for line in lines if line.startswith("data")] == wanted + ["data: live"] * (not number)


@pytest.mark.parametrize("added", ["news", "n*"])
def test_what_is_forgotten_of_an_added_channel_before_it_is_read_is_told(
    clock: TurnClock, added: str
) -> None:
    hub = make_hub(clock, patterns=PatternIndex(), history_size=1)
    socket = FakeSocket(0)
    client = socket_client(socket, limit=100)
    hub.subscribe(client, ["a"])
    client.open()
    for _ in range(3):
        hub.publish(publication("a", "x" * 100))
        turns(clock)
    hub.publish(publication("news", "before"))
    hub.subscribe(client, [added])
    for number in range(3):
        hub.publish(publication("news", str(number)))
    hub.unsubscribe(client, ["a"])
    socket.read(None)
    turns(clock)
    events = [(event.type, event.data) for event in Parser().feed(bytes(socket.received))]
    assert events[1:] == [(GAP_TYPE, f'{{"channels": ["{added}"]}}'), ("message", "2")]


def test_a_client_whose_past_finds_no_room_is_live_in_the_end(clock: TurnClock) -> None:
    """Other bytes, such as those of presence, may fill its buffer while the log is read for it."""
    hub = make_hub(clock, patterns=PatternIndex())
    before = hub.position()
    hub.publish(publication("news", "x" * 200))
    turns(clock)
    hub._resume.log_turns.acquire()  # for another client, so that this one has to wait
    socket = FakeSocket(0)
    client = socket_client(socket, limit=100)
    hub.subscribe(client, ["n*"], before)
    client.open()
    client.send(b": presence\n\n")
    turns(clock)
    socket.read(None)
    hub.publish(publication("news", "live"))
    turns(clock)
    assert [event.data for event in Parser().feed(bytes(socket.received))] == ["x" * 200, "live"]
