"""A client of long polling, which requests, waits for one answer, and requests again.

Browsers without EventSource subscribe in this way. An answer is an ordinary HTTP response, so the connection
stays open for the next request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from math import inf
from operator import attrgetter

from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.client import CORKED, GONE, OPEN, Client, Piece, Refill, Sent, Seq
from cyclone_sse.delivery.events import Event
from cyclone_sse.delivery.losses import Missing
from cyclone_sse.errors import Ending

_SEQ = attrgetter("seq")


class PollClient(Client):
    """A client that waits for one answer.

    send_head: called when there is nothing to answer with yet. answer: called once with the events. abort:
    ends the connection. batch: an answer holds all events there are, instead of the first. until: it holds
    those before this position, and one more: without this, a gap would be told to each poll up to its end.
    """

    __slots__ = ("_abort", "_answer", "_send_head", "batch", "until")

    is_poll = True

    def __init__(
        self,
        send_head: Callable[[], None],
        answer: Callable[[bytes], None],
        abort: Callable[[], None],
        batch: bool = False,
    ) -> None:
        super().__init__()
        self._send_head = send_head
        self._answer = answer
        self._abort = abort
        self.batch = batch
        self.until: float = 0
        self.shares_frames = False

    def open(self) -> None:
        """Answer with missed events, or send the head of the answer if there are none yet."""
        if self.state is not CORKED:
            return
        self.state = OPEN
        if self.on_open is not None:
            on_open, self.on_open = self.on_open, None
            on_open(self)
        if self.state is OPEN:
            self._send_head()

    def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
        """Answer with this."""
        self._finish(data, Ending.ONCE)

    def choose_gaps(
        self, gaps: Mapping[str, Missing], batch: Batch | None, is_complete: bool
    ) -> Mapping[str, Missing]:
        """Those of these gaps that an answer with these events reports; the others are for later polls.

        is_complete: whether no events follow. Sets ``until``.
        """
        if gaps and not is_complete:
            # Without this, each poll up to a gap would be sent it.
            last = self._last_of(batch)
            gaps = {name: missing for name, missing in gaps.items() if missing.due <= last}
        self.until = max((missing.end for missing in gaps.values()), default=self.until)
        return gaps

    def ends_before_gap(self, batch: Batch | None) -> bool:
        """Whether the gaps that were chosen end behind the last of these events."""
        return self._last_of(batch) < self.until

    def _last_of(self, batch: Batch | None) -> float:
        """The position of the last of these events that is for this client; infinite if none is."""
        events = () if batch is None else batch.events
        return max([each.seq for each in events if not each.excludes(self.client_id)], default=inf)

    def choose(self, events: Sequence[Event]) -> tuple[Sequence[Event], bytes]:
        """The events of one answer, and its bytes: all, or the first that render to some bytes."""
        first = len(events) if self.batch else bisect_left(events, self.until, key=_SEQ) + 1
        parts = [events[:first], *([event] for event in events[first:])]
        for part in parts:
            data = self.render(part) if self.render is not None else Batch(part).rendering_for(self).data
            if data:
                return part, data
        return (), b""

    def deliver(self, events: Sequence[Event]) -> Sent:
        """Answer with these events, or with the first of them, as ``batch`` determines."""
        self.until = 0  # without this, `earliest` where nothing was kept would be answered with a whole turn
        sent, data = self.choose(events)
        if not data or self.state is GONE:
            return Sent(0, 0)
        self.send(data)
        return Sent(len(sent), len(data))

    def catch_up(self, piece: Piece, refill: Refill) -> None:
        """Answer with the piece; the events after it are for the next request."""
        self.send(piece.joined())

    def end(self, why: Ending) -> None:
        """Answer with nothing."""
        self._finish(b"", why)

    def abort(self, why: Ending) -> None:
        """End the connection without an answer."""
        if self.state is not GONE:
            self.state = GONE
            self.ending = why
            self._abort()

    def lost(self) -> None:
        """Note that the connection is lost, or that the answer was sent."""
        self.state = GONE
        self.on_open = None
        if self.ending is None:
            self.ending = Ending.LEFT

    def progress(self) -> object:
        """A new value each time: nothing waits here."""
        return object()

    def _finish(self, data: bytes, why: Ending) -> None:
        if self.state is not GONE:
            self.state = GONE
            self.ending = why
            self._answer(data)
