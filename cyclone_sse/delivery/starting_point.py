"""The position at which the stream of a client with an id starts. Plain Python."""

from __future__ import annotations

from typing import NamedTuple

from cyclone_sse.delivery.events import EventId, EventIds, seq_at

EARLIEST_ID = "earliest"  # in place of an id: all that is held
TOLERANCE = 5000  # milliseconds between the clocks of two processes


class Start(NamedTuple):
    """The position at which a client's stream starts.

    after: the position after which it is served. reports_gap: whether it receives a gap for what is not held.
    """

    after: int
    reports_gap: bool


EARLIEST = Start(0, False)  # it requested all events that are held
NO_ID_OF_OURS = Start(0, True)  # it may have missed anything


def starting_point(last_event_id: EventId | str, ids: EventIds) -> Start:
    """The position at which the stream of a client with this id starts.

    For an id of another process, its time counts, with some tolerance: events may then come twice, but none
    is lost. An id from the future, or in an unknown form, is ignored. If all processes have the same ids, an
    id from the future comes from a process that has read further than this one, which will reach it; an id
    with another tag is ignored, since its source is lost.
    """
    if last_event_id == EARLIEST_ID:
        return EARLIEST
    eid = last_event_id if isinstance(last_event_id, EventId) else EventId.parse(last_event_id)
    if eid is None or eid.node in ids.former:
        return NO_ID_OF_OURS
    if eid.node == ids.node:
        return Start(eid.seq, True) if ids.from_elsewhere or eid.seq <= ids.last else NO_ID_OF_OURS
    if ids.from_elsewhere or eid.ms - TOLERANCE > ids.now().ms:
        return NO_ID_OF_OURS
    return Start(seq_at(max(0, eid.ms - TOLERANCE)), True)
