"""Orders to clear channels have their place among the entries of a stream, on every server and in Redis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from cyclone_sse.brokers.redis_stream_arrivals import AHEAD_WAIT
from cyclone_sse.delivery.events import seq_at
from cyclone_sse.errors import Unavailable
from cyclone_sse.slices import MANY
from tests.unit.brokers.redis_streams import FakeStream, Reader
from tests.unit.fakes import FakeClient

LONG = {"history-ttl": 1000}


def keep(stream: FakeStream, channel: str, message: bytes = b"x") -> int:
    return stream.add(b"channel", channel.encode(), b"message", message, b"keep", b"1")


def clear(reader: Reader, *channels: str) -> list[Any]:
    """Give the order to a server; the list gets the outcome."""
    outcome: list[Any] = []
    reader.broker.control({"clear": {"channel": list(channels)}}).addBoth(outcome.append)
    return outcome


def states(reader: Reader) -> dict[str, int]:
    """The entry that is the state of each channel."""
    found = {name: reader.broker.hub.states.get(name) for name in "abc"}
    return {name: event.id.ms for name, event in found.items() if event is not None}


def held_states(stream: FakeStream) -> dict[str, int]:
    return {name.decode(): int(value.partition(b"-")[0]) for name, value in stream.states_held.items()}


def read(*readers: Reader) -> None:
    for reader in readers:
        reader.read_all()
        reader.clock.advance(0)


def test_a_server_clears_what_it_had_not_read_when_it_got_the_order() -> None:
    stream = FakeStream()
    here, there = Reader(stream, **LONG), Reader(stream, **LONG)
    keep(stream, "a")
    read(there)
    outcome = clear(here, "a")
    assert outcome == [], "it answers when the order is carried out"
    read(here, there)
    assert outcome == [0]
    assert states(here) == states(there) == held_states(stream) == {}
    assert here.held("a") == there.held("a") == []


def test_an_order_that_is_read_before_its_id_is_known_is_answered() -> None:
    stream = FakeStream()
    reader = Reader(stream, **LONG)
    run = reader.broker._publishing.run

    def run_and_read(*arguments: Any) -> Deferred[Any]:
        d = run(*arguments)
        read(reader)
        return d

    reader.broker._publishing.run = run_and_read  # type: ignore[assignment, method-assign]
    assert clear(reader, "a") == [0]


def test_what_is_published_after_the_order_stays() -> None:
    stream = FakeStream()
    here, there = Reader(stream, **LONG), Reader(stream, **LONG)
    keep(stream, "a")
    clear(here, "a")
    newer = keep(stream, "a")
    read(here, there)
    assert states(here) == states(there) == held_states(stream) == {"a": newer}
    assert here.held("a") == there.held("a") == [newer]


def test_a_server_that_starts_later_has_no_state_that_was_cleared() -> None:
    stream = FakeStream()
    keep(stream, "a")
    here = Reader(stream, **LONG)
    clear(here, "a")
    read(here)
    later = Reader(stream, **LONG)
    assert states(later) == held_states(stream) == {}
    assert later.held("a") == []


def test_a_client_with_an_older_id_receives_a_gap_on_every_server() -> None:
    stream = FakeStream()
    here, there = Reader(stream, **LONG), Reader(stream, **LONG)
    stream.add()
    clear(here, "a")
    read(here, there)
    for reader in (here, there, Reader(stream, **LONG)):
        client = FakeClient(reader.broker).listen("a", last_event_id="1-0-tag1")
        reader.clock.advance(0)
        assert [(event.type, event.id) for event in client.parse()] == [("sse-gap", "2-0-tag1")]
        client = FakeClient(reader.broker).listen("a", last_event_id="2-0-tag1")
        reader.clock.advance(0)
        assert client.parse() == []


def test_an_order_that_is_not_read_in_time_is_answered_with_an_error() -> None:
    reader = Reader(FakeStream())
    outcome = clear(reader, "a")
    reader.clock.advance(AHEAD_WAIT)
    assert isinstance(outcome[0].value, Unavailable)
    assert outcome[0].value.published == "unknown"


def test_an_order_that_is_not_published_clears_nothing_here() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    n = keep(stream, "a")
    read(reader)
    failed: Deferred[None] = Deferred()
    reader.broker._publishing.run = lambda command, size: failed  # type: ignore[method-assign]
    outcome = clear(reader, "a")
    failed.errback(Unavailable("away", False))
    assert isinstance(outcome[0].value, Unavailable)
    assert states(reader) == {"a": n}


def test_an_order_for_very_many_channels_is_answered_when_all_are_cleared() -> None:
    stream = FakeStream()
    reader = Reader(stream)
    names = [f"c{i}" for i in range(MANY)]
    keep(stream, "a")
    outcome = clear(reader, *names, "a")
    reader.read_all()
    assert outcome == []
    reader.clock.pump([0] * 5)
    assert outcome == [0]
    assert states(reader) == {}


@pytest.mark.parametrize("order", [{"channel": "a"}, {"channel": [5]}, [], 7])
def test_an_order_to_clear_that_makes_no_sense_clears_nothing(order: Any) -> None:
    stream = FakeStream()
    reader = Reader(stream)
    n = keep(stream, "a")
    reader.broker.control({"clear": order})
    read(reader)
    assert states(reader) == {"a": n}


def test_what_was_cleared_by_an_order_that_was_trimmed_unread_is_cleared() -> None:
    stream = FakeStream()
    here, there = Reader(stream, **LONG), Reader(stream, **LONG)
    keep(stream, "a")
    read(here, there)
    clear(here, "a")
    newer = keep(stream, "b")
    read(here)
    stream.entries = []
    read(there)
    assert states(there) == states(here) == held_states(stream) == {"b": newer}


def test_a_server_has_the_states_of_a_stream_whose_end_was_lost() -> None:
    stream = FakeStream()
    reader = Reader(stream, **LONG)
    n = keep(stream, "a")
    stream.add()
    read(reader)
    stream.go_back(1)
    read(reader)
    assert reader.told[-1] == "tag2"
    assert states(reader) == {"a": n}


def test_what_an_application_clears_on_one_server_stays_in_redis() -> None:
    """It has no place in the stream, and other servers do not hear of it."""
    stream = FakeStream()
    here, there = Reader(stream, **LONG), Reader(stream, **LONG)
    n = keep(stream, "a")
    stream.add()
    read(here, there)
    here.broker.clear(["a"])
    stream.add()
    read(here, there)
    assert (states(here), states(there), held_states(stream)) == ({}, {"a": n}, {"a": n})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "add", "clear", "order", "read", "restart"]),
        st.sampled_from("ab"),
        st.integers(0, 1),
    ),
    max_size=25,
)


@given(STEPS)
def test_all_servers_and_redis_have_the_states_that_the_order_of_the_stream_makes(
    steps: list[tuple[str, str, int]],
) -> None:
    stream = FakeStream()
    readers = [Reader(stream, **LONG), Reader(stream, **LONG)]
    expected: dict[str, int] = {}
    cleared: dict[str, int] = {}
    for step, channel, server in steps:
        reader = readers[server]
        if step in ("publish", "add"):
            n = expected[channel] = keep(stream, channel)
            if step == "publish":  # by a server, whose script sets the state in the same step
                stream.states_held[channel.encode()] = b"%d-0\n\nx" % n
        elif step in ("clear", "order"):
            if step == "clear":
                clear(reader, channel)
            else:  # by another program
                stream.add(b"control", b'{"clear": {"channel": ["%s"]}}' % channel.encode())
            cleared[channel] = stream.time
            expected.pop(channel, None)
        elif step == "read":
            reader.read()
            reader.clock.advance(0)
        else:
            readers[server] = Reader(stream, **LONG)
    read(*readers)
    assert [states(reader) for reader in readers] == [expected, expected]
    assert held_states(stream) == expected
    for reader in readers:
        for channel, n in cleared.items():
            floor = reader.broker.hub.history.floor(channel)
            assert floor is not None
            assert floor >= seq_at(n)
