"""What a client is sent of its past, as bytes: a gap has an id only where no event follows."""

from __future__ import annotations

import pytest

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.client import NOTHING
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.pieces import Pieces
from cyclone_sse.delivery.states import States
from cyclone_sse.delivery.views import Limits
from tests.unit.delivery.clients import Recorder

AT = EventId.of(7, 0, "node")


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def pieces(counters: Counters) -> Pieces:
    history = History(lambda _: Limits(10, 100), 1 << 20, start=0)
    return Pieces(history, States(1 << 20), EventIds(None), counters)


def batch(excluded: str | None = None) -> Batch:
    eid = EventId.of(5, 0, "node")
    event = Event(eid, encode("x", eid), ("a",))
    event.excluded = excluded
    return Batch([event])


def test_a_gap_that_no_event_follows_brings_the_position(pieces: Pieces) -> None:
    piece = pieces.of(Recorder(), ["a"], None, AT)
    assert f"id: {AT}\n".encode() in piece.joined()
    assert b"id: " not in pieces.of(Recorder(), ["a"], None, None).joined()


def test_a_gap_before_an_event_leaves_the_id_to_that(pieces: Pieces, counters: Counters) -> None:
    gap, event = pieces.of(Recorder(), ["a"], batch(), AT).frames
    assert b"id: " not in gap
    assert event.endswith(b"data: x\n\n")
    assert counters.deliveries == 1


def test_what_a_client_has_published_itself_is_left_out(pieces: Pieces, counters: Counters) -> None:
    client = Recorder()
    client.client_id = "me"
    assert pieces.of(client, (), batch(excluded="me"), AT) == NOTHING
    assert counters.deliveries == 0
