"""The states of channels beside a stream: put there, taken over by a new server, and cleared."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from cyclone_sse.brokers.redis_scripts import SCRIPT_ENTRIES, SCRIPT_FIELDS
from cyclone_sse.brokers.redis_stream_link import StreamLink
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal
from tests.unit.brokers.redis_streams import FakeStream, Reader


def state(reader: Reader, channel: str) -> str | None:
    event = reader.broker.hub.states.get(channel)
    return None if event is None else event.message


def keep(stream: FakeStream, channel: bytes, message: bytes) -> int:
    return stream.add(b"channel", channel, b"message", message, b"keep", b"1")


def test_an_entry_of_another_program_becomes_the_state() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    keep(stream, b"a", b"old")
    n = keep(stream, b"a", b"new")
    reader.read_all()
    assert state(reader, "a") == "new"
    assert stream.states_held == {b"a": b"%d-0\n\nnew" % n}


def test_a_new_server_has_all_states_though_their_entries_are_trimmed() -> None:
    stream = FakeStream()
    first = Reader(stream)
    keep(stream, b"a", b"x")
    first.read_all()
    stream.entries = []
    stream.states_held[b"odd"] = b"nonsense"
    second = Reader(stream)
    assert (state(second, "a"), state(second, "odd")) == ("x", None)
    event = second.broker.hub.states.get("a")
    assert event is not None
    assert str(event.id) == "1-0-tag1"


def test_states_outlive_a_stream_that_is_lost() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    keep(stream, b"a", b"x")
    reader.read_all()
    stream.lose()
    reader.read_all()
    other = Reader(stream)
    assert state(other, "a") == "x"


def test_an_order_to_forget_a_channel_deletes_what_is_older() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    keep(stream, b"a", b"1")
    keep(stream, b"b", b"1")
    stream.add(b"control", b'{"clear": {"channel": ["a", "b"]}}')
    keep(stream, b"b", b"2")
    reader.read_all()
    assert [state(reader, name) for name in "ab"] == [None, "2"]
    assert stream.states_held == {b"b": b"4-0\n\n2"}


def test_a_state_for_which_there_is_no_room_is_refused_before_it_is_sent() -> None:
    reader = Reader(FakeStream(), **{"state-bytes": 1000})
    with pytest.raises(Refusal) as refusal:
        reader.broker.publish_all([publication("a", "x" * 1000, keep=True)])
    assert refusal.value.status == 507


class CountingLink(StreamLink):
    """A link whose commands go nowhere; it counts them."""

    sent = 0

    def command(self, *words: str | bytes | int) -> Deferred[list[bytes]]:
        self.sent += 1
        return succeed([b"1-0"])


def test_an_event_too_wide_for_a_script_refuses_its_batch_before_any_of_it_is_sent() -> None:
    link = CountingLink("s", 9, 1.0, Clock(), None, None, None)
    wide = publication([f"c{i}" for i in range(SCRIPT_FIELDS)], "x", keep=True)
    batch = [publication("a", "x", keep=True)] * SCRIPT_ENTRIES + [wide]
    failures: list[object] = []
    ensureDeferred(link.publish(batch)).addErrback(lambda failure: failures.append(failure.value))
    assert isinstance(failures[0], Refusal)
    assert (failures[0].status, link.sent) == (400, 0)
