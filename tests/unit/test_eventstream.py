"""The event stream parser that the integration tests read with (`tests/harness/eventstream.py`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.eventstream import Event, Parser

# from the examples of the WHATWG text
STREAMS = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("", "message", "YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [Event("1", "message", "first event"), Event("", "message", "second event")],
    ),
    (b"data\n\ndata\ndata\n\ndata:\n", [Event("", "message", ""), Event("", "message", "\n")]),
    (b"data:test\n\ndata: test\n\n", [Event("", "message", "test")] * 2),
    (
        b"event: add\r\ndata: 1\r\rid: 7\r\n\r\ndata: \xe2\x82\xac\n\n",
        [Event("", "add", "1"), Event("7", "message", "€")],
    ),
]


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_examples_of_the_standard(stream: bytes, events: list[Event]) -> None:
    assert Parser().feed(stream) == events


@given(st.sampled_from(STREAMS), st.data())
def test_any_split_gives_the_same(example: tuple[bytes, list[Event]], data: st.DataObject) -> None:
    stream, events = example
    parser, seen = Parser(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += parser.feed(stream[start:end])
    assert seen == events


def test_comments_and_retry_are_kept() -> None:
    parser = Parser()
    parser.feed(b": sse ping\n\nretry: 3000\n\nretry: soon\n\n")
    assert parser.comments == ["sse ping"]
    assert parser.retry == 3000
