"""One client of long polling: it asks, waits for one answer, and asks again.

Browsers without EventSource listen like this. An answer is an ordinary HTTP response, so that the
connection stays for the next question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cyclone_sse.delivery.client import Client, Refill, State
from cyclone_sse.delivery.events import Event
from cyclone_sse.errors import Ending


class PollClient(Client):
    """A client that waits for one answer.

    begin: called when there is nothing to answer with yet. answer: called once with the events. abort:
    ends the connection. batch: an answer holds all events there are, instead of the first.
    """

    __slots__ = ("_abort", "_answer", "_begin", "batch")

    is_poll = True

    def __init__(
        self,
        begin: Callable[[], None],
        answer: Callable[[bytes], None],
        abort: Callable[[], None],
        batch: bool = False,
    ) -> None:
        super().__init__()
        self._begin = begin
        self._answer = answer
        self._abort = abort
        self.batch = batch
        self.shares_frames = False
        self.state = State.OPEN

    def open(self) -> None:
        """Let the head of the answer leave, unless it does with the body."""
        if self.state is State.OPEN:
            self._begin()

    def send(self, data: bytes, frames: Sequence[bytes] = ()) -> None:
        """Answer with this."""
        self._settle(data, Ending.ONCE)

    def rendered(self, events: Sequence[Event]) -> bytes:
        """What one answer holds of these events: the first that is not rendered to nothing, or all."""
        parts = [events] if self.batch else [[event] for event in events]
        return next(filter(None, map(super().rendered, parts)), b"")

    def deliver(self, events: Sequence[Event]) -> None:
        """Answer with these events, as far as one answer holds them."""
        data = self.rendered(events)
        if data:
            self.send(data)

    def catch_up(self, frames: Sequence[bytes], refill: Refill) -> None:
        """Answer with these; what comes after them is for the next question."""
        self.send(b"".join(frames))

    def end(self, why: Ending) -> None:
        """Answer with nothing."""
        self._settle(b"", why)

    def abort(self, why: Ending) -> None:
        """End the connection without an answer."""
        if self.state is State.OPEN:
            self.state = State.GONE
            self.ending = why
            self._abort()

    def lost(self) -> None:
        """The connection is gone, or the answer given."""
        self.state = State.GONE
        if self.ending is None:
            self.ending = Ending.LEFT

    def progress(self) -> object:
        """Nothing waits for it here."""
        return object()

    def _settle(self, data: bytes, why: Ending) -> None:
        if self.state is State.OPEN:
            self.state = State.GONE
            self.ending = why
            self._answer(data)
