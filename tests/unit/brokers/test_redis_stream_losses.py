"""A stream that others change: rewritten, trimmed, renamed, or with entries of another program."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost

from cyclone_sse.brokers.redis_stream_position import Survey
from cyclone_sse.delivery.events import EventId, seq_at
from cyclone_sse.delivery.publication import publication
from tests.unit.brokers.links import Client
from tests.unit.brokers.redis_streams import FakeStream, Reader, done
from tests.unit.fakes import FakeClient


def following(n: int = 5, **options: object) -> tuple[FakeStream, Reader]:
    """A reader that has read n entries."""
    stream = FakeStream()
    reader = Reader(stream, **options)
    for _ in range(n):
        stream.add()
    reader.read_all()
    assert reader.told[1:] == list(range(1, n + 1))
    reader.told.clear()
    return stream, reader


@pytest.mark.parametrize("lost", [1, 3, 5])
@pytest.mark.parametrize("connect", [False, True])
def test_a_lost_end_with_as_many_written_since_is_found_out(lost: int, connect: bool, log: list[str]) -> None:
    stream, reader = following()
    assert log == []
    client = FakeClient(reader.broker).listen("a")
    stream.go_back(lost)
    for _ in range(lost):
        stream.add()
    if connect:
        reader.connect()
    reader.read_all()
    reader.clock.advance(0)
    added = [6 + n for n in range(lost)]
    assert reader.told == ["tag2", *range(1, 6 - lost), *added]
    gap, *events = client.parse()
    assert gap.type == "sse-gap"
    assert [event.id for event in events] == [f"{n}-0-tag2" for n in added], "those written since come too"
    assert len(log) == 1
    assert "the newest entries of" in log[0]


def test_a_state_that_another_program_writes_after_a_lost_end_is_known() -> None:
    stream, reader = following()
    client = FakeClient(reader.broker)
    client.subscriber.wants_state = True
    client.listen("a")
    stream.go_back(3)
    stream.time = 3  # its clock is behind that of the server that was lost
    stream.add(b"channel", b"a", b"message", b"open", b"keep", b"1")
    stream.time = 5
    stream.add()
    reader.read()
    reader.clock.advance(0)
    reader.read_all()
    reader.clock.advance(0)
    state = reader.broker.hub.states.get("a")
    assert state is not None
    assert state.message == "open"
    assert [(event.type, event.data) for event in client.parse()][-3:] == [
        ("sse-gap", '{"channels": ["a"]}'),
        ("message", "open"),
        ("message", "6"),
    ]


def back_after_a_rename(count: int) -> tuple[FakeStream, Reader, FakeClient]:
    """A reader that is about to read so many entries again, which its client has."""
    stream, reader = following(count)
    client = FakeClient(reader.broker).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.clock.advance(0)
    reader.read()
    return stream, reader, client


def test_a_second_loss_while_the_first_is_being_reported_sends_no_event_twice() -> None:
    stream, reader, client = back_after_a_rename(8)
    reader.read_all()
    stream.lose()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.type for event in client.parse()] == ["sse-gap"] * 3


def test_entries_that_are_trimmed_while_others_are_read_again_send_no_event_twice() -> None:
    stream, reader, client = back_after_a_rename(8)
    del stream.entries[:3]
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.id for event in client.parse() if event.type != "sse-gap"] == ["9-0-tag3"]
    assert reader.held("a") == [4, 5, 6, 7, 8, 9]


def test_orders_are_carried_out_once_though_entries_are_trimmed_while_they_are_read_again() -> None:
    stream, reader, _ = back_after_a_rename(3)
    stream.add(b"control", b'{"end": {"channel": ["a"]}}')
    reader.read_all()
    client = FakeClient(reader.broker).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.read()
    del stream.entries[:2]
    reader.read_all()
    reader.clock.advance(0)
    assert client.subscriber.ending is None


def test_a_tag_that_another_server_renews_while_entries_are_read_again_sends_no_event_twice() -> None:
    stream, reader, client = back_after_a_rename(40)
    reader.broker._lot = 16
    assert reader.read()
    done(stream.claim(renew=True))
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.id for event in client.parse() if event.type != "sse-gap"] == ["41-0-tag4"]


def test_an_entry_that_was_deleted_alone_is_no_loss() -> None:
    stream, reader = following()
    stream.delete(5)
    stream.add()
    reader.read_all()
    assert reader.told == [6]


@pytest.mark.parametrize("unread", [2, 12])
def test_a_publisher_that_trims_to_one_entry_is_found_out(unread: int) -> None:
    stream, reader = following()
    for _ in range(unread):
        stream.add()
        stream.entries = stream.entries[-1:]
    reader.read_all()
    assert reader.told == ["tag1", 5 + unread]  # a gap, then the one that is left


@pytest.mark.parametrize("trimmed_before", [0, 2])
def test_what_is_trimmed_while_a_new_server_begins_to_read_is_found_out(trimmed_before: int) -> None:
    stream = FakeStream()
    for _ in range(10):
        stream.add()
    stream.entries = stream.entries[trimmed_before:]
    stream.tag = "tag1"
    survey = stream.survey

    async def survey_then_trim() -> Survey:
        found = await survey()
        stream.entries = stream.entries[-5:]
        return found

    stream.survey = survey_then_trim  # type: ignore[method-assign]
    reader = Reader(stream)
    assert reader.told[:2] == ["tag1", "tag1"], "a gap"
    assert reader.told[2:] == [6, 7, 8, 9, 10]


def test_trimming_what_was_read_is_no_loss() -> None:
    stream, reader = following()
    for _ in range(10):
        stream.add()
        stream.entries = stream.entries[-1:]
        reader.read_all()
    stream.entries = []
    reader.read_all()
    reader.connect()
    assert reader.told == list(range(6, 16))


def posted(reader: Reader, message: str) -> str:
    """The id of an event that was POSTed to this server."""
    found: list[list[str]] = []
    reader.broker.publish_all([publication("a", message)]).addCallback(found.append)
    ((id,),) = found
    return id


def test_an_entry_that_is_lost_before_it_is_read_is_a_gap_if_its_publisher_was_answered(
    log: list[str],
) -> None:
    stream, reader = following(5)
    other = Reader(stream)
    clients = [FakeClient(each.broker).listen("a") for each in (reader, other)]
    assert posted(reader, "lost") == "6-0-tag1"
    stream.go_back(1)  # a failover
    stream.add()
    for each in (reader, other):
        each.read_all()
        each.clock.advance(0)
    for client in clients[:1]:
        assert [(event.type, event.id) for event in client.parse()] == [
            ("sse-gap", "5-0-tag2"),
            ("message", "7-0-tag2"),
        ]
    assert clients[1].parse()[0].type == "sse-gap", "the tag shows it to the others"
    assert "the newest entries of" in log[0]


def test_an_own_entry_that_is_lost_is_a_gap_also_if_the_connection_is_lost_when_that_is_found(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, reader = following(5)
    client = FakeClient(reader.broker).listen("a")
    posted(reader, "lost")
    stream.go_back(1)
    stream.add()

    async def fail(renew: bool = False) -> str:
        raise ConnectionLost

    with monkeypatch.context() as patch:
        patch.setattr(stream, "claim", fail)
        with pytest.raises(ConnectionLost):
            reader.read()
    reader.connect()
    reader.clock.advance(0)
    assert [event.type for event in client.parse()] == ["sse-gap", "message"]


def test_an_own_entry_that_is_read_or_deleted_is_no_loss() -> None:
    stream, reader = following(5)
    client = FakeClient(reader.broker).listen("a")
    posted(reader, "read")
    posted(reader, "deleted")
    stream.delete(7)
    stream.add()
    reader.read_all()
    posted(reader, "read")
    reader.read_all()
    reader.clock.advance(0)
    assert [event.data for event in client.parse()] == ["read", "8", "read"]


def test_an_own_entry_that_is_trimmed_before_it_is_read_changes_no_tag() -> None:
    stream, reader = following(5)
    client = FakeClient(reader.broker).listen("a")
    posted(reader, "trimmed")
    stream.add()
    stream.entries = stream.entries[-1:]
    reader.read_all()
    reader.clock.advance(0)
    assert [event.type for event in client.parse()] == ["sse-gap", "message"]
    assert stream.tag == "tag1"


def test_a_stream_that_is_renamed_and_back_sends_no_event_twice() -> None:
    stream, reader = following(8)
    client = FakeClient(reader.broker).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.read_all()
    reader.clock.advance(0)
    events = client.parse()
    assert [event.type for event in events] == ["sse-gap", "sse-gap"]
    assert events[-1].id == "8-0-tag3"  # a client that resumes from here is not sent the past
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.id for event in client.parse()][2:] == ["9-0-tag3"]
    assert reader.held("a") == list(range(1, 10))  # others can resume from older ids


@pytest.mark.parametrize("added_after", [0, 1])
def test_a_client_that_was_away_is_told_of_a_stream_in_between(added_after: int) -> None:
    stream, reader = following(8)
    position = reader.broker.hub.position()
    kept = stream.contents
    stream.lose()
    stream.add()  # this one is missed
    reader.read_all()
    stream.contents = kept
    for _ in range(added_after):
        stream.add()
    reader.read_all()
    client = FakeClient(reader.broker).listen("a", last_event_id=position)
    reader.clock.advance(0)
    assert client.parse()[0].type == "sse-gap"


def test_a_client_that_comes_while_the_past_is_read_again_is_not_sent_the_past() -> None:
    stream, reader = following(40)
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.read()
    position = reader.broker.hub.position()
    client = FakeClient(reader.broker).listen("a")
    with_states = FakeClient(reader.broker)
    with_states.subscriber.wants_state = True
    with_states.listen("a")
    reader.read_all()
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    assert position == "40-0-tag3"
    assert [event.data for event in client.parse()] == ["41"]
    assert [event.data for event in with_states.parse()] == ["41"]


def test_a_slow_client_that_drops_the_gap_is_not_sent_the_past_again() -> None:
    stream, reader = following(5)
    client = FakeClient(reader.broker, limit=100, room=0).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    for _ in range(10):
        stream.add()
    reader.read_all()
    for _ in range(10):
        reader.clock.advance(0)
        client.socket.read(None)
    assert [event.data for event in client.parse() if event.type != "sse-gap"] == [
        str(n) for n in range(6, 16)
    ]
    assert {event.type for event in client.events[:-10]} == {"sse-gap"}


def test_a_channel_that_is_added_while_the_past_is_read_again_brings_no_past() -> None:
    stream, reader = following(40)
    client = FakeClient(reader.broker).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.read()
    reader.clock.advance(0)
    reader.broker.add_client(client, ["b"])
    reader.read_all()
    stream.add(b"channel", b"b", b"message", b"new")
    reader.read_all()
    reader.clock.advance(0)
    assert client.messages == ["new"]


def reading_again(**options: Any) -> tuple[FakeStream, Reader, FakeClient]:
    """A stream that was renamed and is back, of which 16 of 100 entries have been read again; a client."""
    stream, reader = following(100)
    client = FakeClient(reader.broker, **options).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.broker._lot = 16
    reader.read()
    reader.read()
    assert reader.broker.hub.ids.last == seq_at(16)
    for _ in range(5):
        reader.clock.advance(0)
    return stream, reader, client


@pytest.mark.parametrize("last_event_id", ["5-0-tag3", "20-0-tag3", "earliest", "5-0-tag1"])
def test_a_channel_that_is_added_with_an_id_while_the_past_is_read_again_repeats_no_other(
    last_event_id: str,
) -> None:
    stream, reader, client = reading_again()
    client.parse().clear()
    reader.broker.add_client(client, ["b"], last_event_id)
    reader.read_all()
    stream.add(b"channel", b"b", b"message", b"new")
    reader.read_all()
    reader.clock.advance(0)
    gap, *events = client.parse()
    assert (gap.type, gap.data) == ("sse-gap", '{"channels": ["b"]}')
    assert [event.data for event in events] == ["new"]


def test_a_channel_that_is_added_to_a_slow_client_while_the_past_is_read_again_repeats_no_other() -> None:
    stream, reader, client = reading_again(limit=100, room=0)
    reader.broker.add_client(client, ["b"])
    client.socket.read(None)
    reader.clock.advance(0)
    reader.read_all()
    stream.add(b"channel", b"b", b"message", b"new")
    reader.read_all()
    for _ in range(5):
        reader.clock.advance(0)
        client.socket.read(None)
    assert client.messages == ["new"]


def test_a_client_that_is_ahead_is_told_of_no_gap_when_what_it_has_is_trimmed() -> None:
    stream, reader = following(2)
    for _ in range(8):
        stream.add()
    ahead = FakeClient(reader.broker).listen("a", last_event_id="8-0-tag1")
    behind = FakeClient(reader.broker).listen("a", last_event_id="3-0-tag1")
    stream.entries = stream.entries[-5:]
    reader.read_all()
    reader.clock.advance(0)
    assert [event.data for event in ahead.parse()] == ["9", "10"]
    assert [event.type for event in behind.parse()] == ["sse-gap", *["message"] * 5]


def test_a_lost_end_that_another_server_has_found_sends_no_event_twice() -> None:
    stream, reader = following(5)
    other = Reader(stream)
    client = FakeClient(reader.broker).listen("a")
    stream.go_back(2)
    other.read_all()  # it gives the stream another tag
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    gap, event = client.parse()
    assert (gap.type, event.id) == ("sse-gap", "6-0-tag2")
    assert reader.held("a") == [1, 2, 3, 6]  # others can resume from older ids


def test_a_failover_that_is_undone_sends_no_event_twice() -> None:
    stream, reader = following(5)
    client = FakeClient(reader.broker).listen("a")
    before = stream.contents
    stream.go_back(2)
    stream.add()
    reader.read_all()  # it gives the stream another tag
    stream.contents = before
    stream.add()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.id for event in client.parse() if event.type != "sse-gap"] == ["6-0-tag2", "7-0-tag3"]


def test_orders_are_carried_out_once_though_the_stream_is_read_again() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    stream.add(b"control", b'{"end": {"channel": ["a"]}}')
    reader.read_all()
    client = FakeClient(reader.broker).listen("a")
    kept = stream.contents
    stream.lose()
    reader.read_all()
    stream.contents = kept
    reader.read_all()
    reader.clock.advance(0)
    assert client.subscriber.ending is None


@pytest.mark.parametrize("finds", [True, False])
def test_an_order_that_is_given_after_a_lost_end_is_carried_out(finds: bool) -> None:
    stream, reader = following()
    other = Reader(stream)
    client = FakeClient(reader.broker).listen("a")
    stream.go_back(2)
    stream.add()
    if not finds:
        other.read()  # it gives the stream another tag
    stream.add(b"control", b'{"end": {"channel": ["a"]}}')
    reader.read_all()
    reader.clock.advance(0)
    assert client.subscriber.ending is not None


def test_an_entry_that_is_no_event_is_a_position_all_the_same() -> None:
    """Otherwise clients would receive a gap after a deploy if the stream has been trimmed."""
    stream, reader = following()
    stream.add(b"control", b"{}")
    stream.add(b"nonsense", b"x")
    reader.read_all()
    position = reader.broker.hub.position()
    assert position == "7-0-tag1"
    stream.entries = []
    other = Reader(stream)
    client = FakeClient(other.broker).listen("a", last_event_id=position)
    other.clock.advance(0)
    assert client.parse() == []


def test_an_id_that_is_larger_than_any_clock_is_read() -> None:
    stream, reader = following()
    stream.time = 2**64 - 3
    stream.add()
    reader.read_all()
    assert reader.told == [2**64 - 2]
    assert EventId.parse(reader.broker.hub.position()) == EventId.of(2**64 - 2, 0, "tag1")


def test_an_entry_that_is_too_large_is_left_out(log: list[str]) -> None:
    stream, reader = following(**{"max-body": 100})
    stream.add(b"channel", b"a", b"message", b"x" * 101)
    stream.add(b"channel", b"a", b"message", b"x" * 100)
    reader.read_all()
    assert reader.told == [7]
    assert len([line for line in log if "more than --max-body" in line]) == 1


def test_patterns_need_an_option_or_a_rule() -> None:
    reader = Reader(FakeStream())
    assert not reader.broker.open_patterns
    reader.broker.add_client(Client(), ["a"])
