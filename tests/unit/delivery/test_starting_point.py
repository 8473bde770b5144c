"""Where the stream of a client that comes with an id begins."""

from __future__ import annotations

from cyclone_sse.delivery.events import EventId, EventIds
from cyclone_sse.delivery.starting_point import EARLIEST, NO_ID_OF_OURS, TOLERANCE, Start, starting_point


def test_where_a_stream_begins() -> None:
    ids = EventIds(lambda: 100.0, "mine")
    eid = ids.next()
    assert starting_point("earliest", ids) == EARLIEST
    assert starting_point(str(eid), ids) == Start(eid.seq, True)
    assert starting_point("nonsense", ids) == NO_ID_OF_OURS
    assert starting_point("100000-99-mine", ids) == NO_ID_OF_OURS, "it was not given yet"
    other = EventId.of(90_000, 3, "other")
    assert starting_point(str(other), ids) == Start(EventId.of(90_000 - TOLERANCE, 0, "x").seq, True)
    assert starting_point("200000-0-other", ids) == NO_ID_OF_OURS
    ids.reset("new", 5)
    assert starting_point(str(eid), ids) == NO_ID_OF_OURS, "its order was lost"
