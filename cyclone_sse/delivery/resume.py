"""How a client that was here before gets what it missed.

What is missed is taken from the history piece by piece, as the client reads it, so that a slow
client cannot make the server hold more than one piece for it. While it catches up it hears no
live events, since the history has them; the step to hearing them is taken in the very call that
finds nothing more to send, so the seam has neither a hole nor a double.
"""

from __future__ import annotations

from collections.abc import Callable

from cyclone_sse.delivery.events import EventId, EventIds, encode_gap, seq_at
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.subscriber import Subscriber

EARLIEST = "earliest"  # in place of an id: all that is held
TOLERANCE = 5000  # milliseconds between the clocks of two processes
_BATCH = 256 * 1024  # bytes taken from the history at a time

_ALL = -2  # everything held, and no word about what is not
_UNKNOWN = -1  # everything held, and the gap is told


def starting_point(last_event_id: str, ids: EventIds) -> int:
    """The position after which a client with this id is to be served.

    An id of another process counts by its time, with some tolerance: what it tells then may be
    doubled, but not lost. An id from the future, or one that nobody gave, tells nothing.
    """
    if last_event_id == EARLIEST:
        return _ALL
    eid = EventId.parse(last_event_id)
    if eid is None:
        return _UNKNOWN
    if eid.node == ids.node:
        return eid.seq if eid.seq <= ids.last else _UNKNOWN
    if eid.ms - TOLERANCE > ids.mark().ms:
        return _UNKNOWN
    return seq_at(max(0, eid.ms - TOLERANCE))


class Resume:
    """One client on its way back to the present.

    clock: the time in the history's seconds. seq: where to begin, from ``starting_point``.
    """

    def __init__(
        self, subscriber: Subscriber, history: History, ids: EventIds, clock: Callable[[], float], seq: int
    ) -> None:
        self._subscriber = subscriber
        self._history = history
        self._ids = ids
        self._clock = clock
        self._seq = seq
        self._told: dict[str, int] = {}  # floor of each channel when its gap was told
        self._done = False
        self._sent = False

    def begin(self) -> None:
        """Start to send."""
        self._subscriber.catch_up(self._next)

    def _next(self) -> bytes:
        data = self._batch()
        while not data and not self._done:
            data = self._batch()  # a custom application's sendEvent left all of this one out
        return data

    def _batch(self) -> bytes:
        if self._done:
            if self._subscriber.once and self._sent:
                self._subscriber.close()
            return b""
        client, now = self._subscriber, self._clock()
        missed = self._history.since(self._seq, client.channels, now)
        gap = self._new_gaps(now)
        batch, size = 0, 0
        while batch < len(missed) and size < _BATCH and not (client.once and batch):
            size += len(missed[batch].frame)
            batch += 1
        data = b""
        if gap:
            # With nothing to follow, the client needs an id of the present to come back with.
            data = encode_gap(gap, None if missed else self._ids.mark())
        if batch:
            data += client.render(missed[:batch])
            self._seq = missed[batch - 1].seq
        if batch == len(missed) or client.once:
            self._go_live()
        self._sent = bool(data)
        return data

    def _new_gaps(self, now: float) -> list[str]:
        if self._seq == _ALL:
            return []
        gaps = []
        for channel in self._history.gaps(self._seq, self._subscriber.channels, now):
            floor = self._history.floor(channel)
            if self._told.get(channel, -1) < floor:
                self._told[channel] = floor
                gaps.append(channel)
        return gaps

    def _go_live(self) -> None:
        self._done = True
        self._subscriber.after = self._ids.last
