"""Ids that only grow, and bytes that a conforming parser reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.events import Event, EventId, EventIds, channel_line, encode, encode_gap
from tests.harness.eventstream import Parser

LINES = st.text(st.one_of(st.sampled_from("\r\n :"), st.characters(codec="utf-8")))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.data())
def test_ids_grow_whatever_the_clock_does(times: list[float], data: st.DataObject) -> None:
    clock = iter([times[0], *times])
    ids = EventIds(lambda: next(clock), "n")
    seen = [ids.last]
    for _ in times:
        marked = data.draw(st.booleans())
        eid = ids.now() if marked else ids.next()
        assert eid.seq >= seen[-1] if marked else eid.seq > seen[-1]
        assert EventId.parse(str(eid)) == eid
        seen.append(eid.seq)


def test_processes_tell_themselves_apart() -> None:
    assert EventIds(lambda: 0).node != EventIds(lambda: 0).node


@given(st.one_of(st.text(), st.from_regex(r"\d*-\d*-\w*")))
def test_any_text_may_come_as_an_id(text: str) -> None:
    eid = EventId.parse(text)
    assert eid is None or str(EventId.parse(str(eid))) == str(eid)


@given(LINES, st.sampled_from([None, "sse-gap"]))
def test_a_message_is_read_back(message: str, kind: str | None) -> None:
    frame = encode(message, "1-2-n", kind)
    normal = message.replace("\r\n", "\n").replace("\r", "\n")
    parser = Parser()
    (received,) = parser.feed(frame)
    assert (received.id, received.type, received.data) == ("1-2-n", kind or "message", normal)
    event = Event(EventId.of(1, 2, "n"), frame)
    assert event.message == normal
    assert event.id_text == str(event.id)


def test_the_bytes_on_the_wire() -> None:
    assert encode("hello", "1-2-n") == b"id: 1-2-n\ndata: hello\n\n"
    assert encode("a\r\nb\rc\n", "1") == b"id: 1\ndata: a\ndata: b\ndata: c\ndata: \n\n"
    assert encode(b"x", event="e", retry=5) == b"event: e\nretry: 5\ndata: x\n\n"
    assert encode_gap({"b", "a"}) == b'event: sse-gap\ndata: {"channels": ["a", "b"]}\n\n'


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a", "a"),
        ("100%", "100%"),
        ("a\nb", "a%0Ab"),
        ("a\r\nb", "a%0D%0Ab"),
        ("50%\r", "50%25%0D"),
        ("\u2028", "\u2028"),
    ],
)
def test_a_channel_is_named_in_one_line(name: str, line: str) -> None:
    assert channel_line(name) == f"channel: {line}\n".encode()
