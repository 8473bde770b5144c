"""The states of channels beside a stream: put there, taken over by a new server, and cleared."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from cyclone_sse.brokers import redis_stream
from cyclone_sse.brokers.redis_link import ResponseError
from cyclone_sse.brokers.redis_scripts import FIELDS_IN_SCRIPT, SCRIPT_CHANNELS, SCRIPT_ENTRIES
from cyclone_sse.brokers.redis_stream_link import STATES_IN_STEP, StreamLink
from cyclone_sse.brokers.redis_stream_states import StreamStates
from cyclone_sse.delivery.publication import publication
from cyclone_sse.delivery.states import STATES_AT_ONCE
from cyclone_sse.errors import Refusal
from cyclone_sse.log_limit import LOG_INTERVAL
from tests.unit.brokers.redis_streams import FakeStream, Reader, done
from tests.unit.fakes import FakeClient


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


def test_channels_share_a_state_on_a_new_server_too() -> None:
    stream = FakeStream()
    stream.states_held = dict.fromkeys((b"a", b"b"), b"1-0\n\nx")
    states = Reader(stream).broker.hub.states
    event = states.get("a")
    assert event is not None
    assert event is states.get("b")
    assert sorted(event.channels) == ["a", "b"]


def test_what_was_added_while_no_server_was_running_becomes_the_state_however_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_stream, "MAX_LOT", 2)
    stream = FakeStream()
    for name in (b"a", b"b", b"a", b"c"):
        keep(stream, name, b"%d" % stream.time)
    stream.add(b"control", b'{"clear": {"channel": ["b"]}}')
    stream.add(b"odd", b"entry")
    for _ in range(3):
        stream.add()
    stream.time += 1_000_000
    keep(stream, b"c", b"new")
    for _ in range(2):
        reader = Reader(stream)
        reader.read_all()
        assert [state(reader, name) for name in "abc"] == ["2", None, "new"]
        assert len(reader.held("a", "b", "c")) == 1
        assert set(stream.states_held) == {b"a", b"c"}


def test_states_outlive_a_stream_that_is_lost() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    keep(stream, b"a", b"x")
    reader.read_all()
    stream.lose()
    reader.read_all()
    other = Reader(stream)
    assert state(other, "a") == "x"


def test_clients_are_sent_the_states_with_the_gap_of_a_stream_that_is_lost() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    client = FakeClient(reader.broker)
    client.subscriber.wants_state = True
    client.listen("a")
    keep(stream, b"a", b"x")
    reader.read_all()
    reader.clock.advance(0)
    stream.lose()
    reader.read_all()
    reader.clock.advance(0)
    assert [event.data for event in client.parse()] == ["x", '{"channels": ["a"]}', "x"]


def test_a_state_that_is_read_later_does_not_come_with_the_gap() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    stream.add()
    reader.read_all()
    client = FakeClient(reader.broker)
    client.subscriber.wants_state = True
    client.listen("a")
    for _ in range(2):
        keep(stream, b"a", b"x")
    other = Reader(stream)
    del stream.entries[:2]  # trimmed before the first has read it
    reader.read_all()
    reader.clock.advance(0)
    assert state(other, "a") == "x"
    assert [event.data for event in client.parse()] == ['{"channels": ["a"]}', "x"]


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


def test_the_room_for_very_many_states_is_checked_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(FakeStream())
    looked_up = [0]

    def count(channel: str) -> None:
        looked_up[-1] += 1

    monkeypatch.setattr(reader.broker.hub.states, "_position", count)
    batch = [publication([f"{n}-{i}" for i in range(STATES_AT_ONCE)], "x", keep=True) for n in range(5)]
    results: list[object] = []
    reader.broker.publish_all(batch).addBoth(results.append)
    while not results:
        looked_up.append(0)
        reader.clock.turn()
    assert max(looked_up) <= STATES_AT_ONCE
    assert sum(looked_up) == 5 * STATES_AT_ONCE


def test_states_of_others_for_which_there_is_no_room_are_logged_once(log: list[str]) -> None:
    stream = FakeStream()
    stream.states_held = dict.fromkeys((b"a", b"b"), b"1-0\n\n" + b"x" * 1000)
    reader = Reader(stream, **{"state-bytes": 1000})
    keep(stream, b"c", b"x" * 1000)
    reader.read_all()
    assert len(reader.broker.hub.states) == 0
    line = "states are not kept: there is no room for more states: see --state-bytes; there may be more"
    assert [each for each in log if "room" in each] == [line]
    reader.clock.advance(LOG_INTERVAL)
    keep(stream, b"c", b"x" * 1000)
    reader.read_all()
    assert [each for each in log if "room" in each] == [line] * 2


class CountingLink(StreamLink):
    """A link whose scripts go nowhere; it counts the words of each."""

    def __init__(self) -> None:
        super().__init__("s", 9, 1.0, Clock(), None, None, None)
        self.sent: list[int] = []

    def command(self, *words: str | bytes | int) -> Deferred[list[bytes]]:
        self.sent.append(len(words))
        entries = words[2 + int(words[2]) + 1]
        return succeed([b"1-0"] * int(entries))


def test_an_event_too_wide_for_a_script_refuses_its_batch_before_any_of_it_is_sent() -> None:
    link = CountingLink()
    wide = publication([f"c{i}" for i in range(SCRIPT_CHANNELS + 1)], "x", keep=True)
    batch = [publication("a", "x", keep=True)] * SCRIPT_ENTRIES + [wide]
    failures: list[object] = []
    ensureDeferred(link.publish(batch)).addErrback(lambda failure: failures.append(failure.value))
    assert isinstance(failures[0], Refusal)
    assert (failures[0].status, link.sent) == (400, [])


@pytest.mark.parametrize("channels", [1, 100, 1400])
def test_a_script_adds_a_limited_number_of_entries_and_fields(channels: int) -> None:
    link = CountingLink()
    batch = [publication([f"c{i}" for i in range(channels)], "x", keep=True)] * 1200
    ids = done(link.publish(batch))
    assert len(ids) == len(batch)
    assert len(link.sent) >= 3
    assert max(link.sent) <= 2 * FIELDS_IN_SCRIPT


class BreakingStream(FakeStream):
    """A stream, the connection to which is lost before, or after, the command of this number from now."""

    left: int | None = None
    is_carried_out = False  # the command during which the connection is lost

    def lose_connection(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    async def set_states(self, values: dict[bytes, bytes]) -> None:
        is_lost = self.lose_connection()
        if not is_lost or self.is_carried_out:
            await super().set_states(values)
        if is_lost:
            raise ConnectionLost

    async def clear_states(self, before: bytes, channels: list[str]) -> None:
        is_lost = self.lose_connection()
        if not is_lost or self.is_carried_out:
            await super().clear_states(before, channels)
        if is_lost:
            raise ConnectionLost


def test_what_was_not_written_when_the_connection_was_lost_is_written_on_the_next() -> None:
    stream = BreakingStream()
    reader = Reader(stream)
    keep(stream, b"b", b"old")
    reader.read_all()
    stream.add(b"control", b'{"clear": {"channel": ["b"]}}')
    keep(stream, b"a", b"x")
    stream.left = 1  # the order is carried out, the state is not set
    with pytest.raises(ConnectionLost):
        reader.read_all()
    assert stream.states_held == {}
    stream.left = 0
    with pytest.raises(ConnectionLost):
        reader.connect()
    stream.left = None
    reader.connect()
    assert stream.states_held == {b"a": b"3-0\n\nx"}


def test_only_orders_are_carried_out_before_the_states_are_read_again() -> None:
    """A later order, which is lost, may have cleared the states that were not written."""
    stream = FakeStream()
    stream.states_held = {b"a": b"1-0\n\nx"}
    states = StreamStates(print)
    states.clear(b"2-0", ["a"])
    states.add(b"3-0", publication("b", "x", keep=True))
    assert done(states.read(stream)) == []  # type: ignore[arg-type]
    done(states.write(stream))  # type: ignore[arg-type]
    assert stream.states_held == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["keep", "clear"]), st.sampled_from("ab")),
        st.tuples(st.just("read"), st.sampled_from(["", "0 before", "0 after", "1 before", "1 after"])),
    ),
    max_size=20,
)


@given(STEPS)
def test_the_states_in_redis_are_those_of_the_stream_however_often_the_connection_is_lost(
    steps: list[tuple[str, str]],
) -> None:
    stream = BreakingStream()
    reader = Reader(stream)
    expected: dict[bytes, bytes] = {}
    for step, argument in (*steps, ("read", "")):
        name = argument.encode()
        if step == "keep":
            n = keep(stream, name, b"x")
            expected[name] = b"%d-0\n\nx" % n
        elif step == "clear":
            stream.add(b"control", b'{"clear": {"channel": ["%s"]}}' % name)
            expected.pop(name, None)
        else:
            stream.left = int(argument[0]) if argument else None
            stream.is_carried_out = argument.endswith("after")
            with suppress(ConnectionLost):
                reader.read_all()
    assert stream.states_held == expected


def test_two_orders_with_the_same_id_are_both_carried_out() -> None:
    stream = FakeStream()
    stream.states_held = {b"a": b"1-0\n\nx", b"b": b"1-0\n\nx"}
    states = StreamStates(print)
    states.clear(b"2-0", ["a"])
    states.clear(b"2-0", ["b"])
    done(states.write(stream))  # type: ignore[arg-type]
    assert stream.states_held == {}


def test_states_that_redis_refuses_are_given_up_with_a_reason() -> None:
    class Refusing(FakeStream):
        async def set_states(self, values: dict[bytes, bytes]) -> None:
            raise ResponseError("OOM command not allowed")

    reasons: list[str] = []
    states = StreamStates(lambda error: reasons.append(str(error)))
    states.add(b"1-0", publication("a", "x", keep=True))
    done(states.write(Refusing()))  # type: ignore[arg-type]
    stream = FakeStream()
    done(states.write(stream))  # type: ignore[arg-type]
    assert (stream.states_held, reasons) == ({}, ["OOM command not allowed"])


class ScriptLink(StreamLink):
    """A link whose commands go nowhere; it keeps the arguments of scripts."""

    def command(self, *words: str | bytes | int) -> Deferred[list[bytes]]:
        self.__dict__.setdefault("scripts", []).append(words[4:])
        return succeed([])


def test_a_message_is_sent_once_for_all_channels_whose_state_it_is() -> None:
    link = ScriptLink("s", 9, 1.0, Clock(), None, None, None)
    done(link.set_states({b"a": b"1-0\n\nx", b"b": b"2-0\n\ny", b"c": b"1-0\n\nx"}))
    assert link.__dict__["scripts"] == [(b"1-0\n\nx", b"2", b"a", b"c", b"2-0\n\ny", b"1", b"b")]


def test_very_many_channels_are_written_and_cleared_in_parts() -> None:
    link = ScriptLink("s", 9, 1.0, Clock(), None, None, None)
    names = [f"c{i}" for i in range(2 * STATES_IN_STEP + 1)]
    states = StreamStates(print)
    states.add(b"1-0", publication(names, "x", keep=True))
    done(states.write(link))
    states.clear(b"2-0", names)
    done(states.write(link))
    at_once = STATES_IN_STEP
    assert [len(words) - 2 for words in link.__dict__["scripts"][:3]] == [at_once, at_once, 1]
    assert [len(words) - 1 for words in link.__dict__["scripts"][3:]] == [at_once, at_once, 1]
