"""How a client that was here before gets what it missed.

What is missed is taken from the history piece by piece, as the client reads it, so that a slow
client cannot make the server hold more than one piece for it, and no turn of the reactor is long.
While a client catches up it hears no live events, since the history has them; the step to hearing
them is taken in the very call that finds nothing more to send, so the seam has neither a hole nor a
double.

When a thousand clients come back at once they ask the same question. It is answered once: the
answer is kept until something else is published.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode_gap, seq_at
from cyclone_sse.delivery.history import History

EARLIEST_ID = "earliest"  # in place of an id: all that is held
TOLERANCE = 5000  # milliseconds between the clocks of two processes
BATCH = 256 * 1024  # bytes taken from the history at a time
BATCH_EVENTS = 1000  # likewise: about 2 ms
ANSWERS = 32  # kept at a time


class Start(NamedTuple):
    """Where a client's stream begins.

    after: the position after which it is served. tell_gap: whether it is told of what is not held.
    """

    after: int
    tell_gap: bool


EARLIEST = Start(0, False)  # it asked for whatever is held
NO_ID_OF_OURS = Start(0, True)  # it may have missed anything


def starting_point(last_event_id: str, ids: EventIds) -> Start:
    """Where the stream of a client with this id begins.

    An id of another process counts by its time, with some tolerance: what it tells then may be
    doubled, but not lost. An id from the future, or one that nobody gave, tells nothing. Where all processes
    have the same ids, one from the future was heard from a process that has read on further than this one,
    which will come to it; one with another tag tells nothing, since what gave it is lost.
    """
    if last_event_id == EARLIEST_ID:
        return EARLIEST
    eid = EventId.parse(last_event_id)
    if eid is None or eid.node in ids.former:
        return NO_ID_OF_OURS
    if eid.node == ids.node:
        return Start(eid.seq, True) if ids.from_elsewhere or eid.seq <= ids.last else NO_ID_OF_OURS
    if ids.from_elsewhere or eid.ms - TOLERANCE > ids.now().ms:
        return NO_ID_OF_OURS
    return Start(seq_at(max(0, eid.ms - TOLERANCE)), True)


class Answer(NamedTuple):
    """What was missed after a position. complete: there is nothing after these events."""

    events: Sequence[Event]
    frames: Sequence[bytes]
    data: bytes
    complete: bool


class Resume:
    """Brings clients back to the present.

    clock: the time in the history's seconds.
    """

    def __init__(
        self, history: History, ids: EventIds, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self.history = history
        self.ids = ids
        self.clock = clock
        self._counters = counters
        self._answers: dict[tuple[int, tuple[str, ...]], Answer] = {}
        self.era = 0  # changes when ids begin anew: positions from before mean nothing then

    def start(self, client: Client, last_event_id: str) -> None:
        """Send the client what it missed since this id; then it is live."""
        start = starting_point(last_event_id, self.ids)
        now = self.clock()
        channels = client.channels
        gaps = self.history.gaps(start.after, channels, now) if start.tell_gap else ()
        if gaps:
            self._counters.resumes_gap += 1
        else:
            self._counters.resumes_complete += 1
        missed = self.history.with_events_after(start.after, channels)
        answer = self.answer(start.after, missed)
        if not (gaps or answer.events):
            self.go_live(client, start.after)
            return
        client.last_sent_at = now
        if client.is_poll:
            self._answer_poll(client, start.after, missed, gaps)
            return
        if answer.complete:
            self.go_live(client)
            if client.shares_frames and not gaps:
                client.send(answer.data, answer.frames)
            else:
                data = client.rendered(answer.events)
                client.send(self._gap(gaps, bool(data)) + data)
        else:
            known = {} if start.tell_gap else {name: self.history.floor(name) for name in channels}
            CatchUp(self, client, start.after, known).start(self._gap(gaps, True))

    def answer(self, after: int, channels: tuple[str, ...]) -> Answer:
        """What these channels, which have something after the position, brought next."""
        if not channels:
            return Answer((), (), b"", True)
        answer = self._answers.get((after, channels))
        if answer is None:
            events = self.history.since(after, channels, self.clock())
            batch = list(_bounded(events))
            frames = tuple(event.frame for event in batch)
            answer = Answer(batch, frames, b"".join(frames), next(events, None) is None)
            if len(self._answers) >= ANSWERS:
                self._answers.clear()
            self._answers[after, channels] = answer
        return answer

    def forget_answers(self) -> None:
        """Something was published or forgotten: each question has another answer now."""
        if self._answers:
            self._answers.clear()

    def reset(self) -> None:
        """Ids begin anew, and what was held is gone: nobody catches up with it any more."""
        self.era += 1
        self.forget_answers()

    def go_live(self, client: Client, after: int = 0) -> None:
        """All there is has been given to the client; it is due what comes from now on.

        after: a position up to which it needs nothing, even if we have not come to it yet.
        """
        client.skip_until = max(self.ids.last, after)

    def _gap(self, gaps: Collection[str], is_followed: bool) -> bytes:
        """What tells of these gaps. With no event to follow, the client needs an id to come back with."""
        return encode_gap(gaps, None if is_followed else self.ids.now()) if gaps else b""

    def _answer_poll(
        self, client: Client, after: int, channels: tuple[str, ...], gaps: Collection[str]
    ) -> None:
        """Answer with what was missed. A poll never goes live with more to come: an event of the
        present would leave behind what was not sent."""
        answer = self.answer(after, channels)
        while not (data := client.rendered(answer.events)) and not answer.complete:
            # A custom application's sendEvent left all of it out.
            answer = self.answer(answer.events[-1].seq, channels)
        data = self._gap(gaps, bool(data)) + data
        if data:
            client.send(data)
        else:
            self.go_live(client)


class CatchUp:
    """One client that missed more than goes out in one piece.

    after: the position that it has reached. known: the floors of channels of which it need not be told.
    """

    def __init__(self, resume: Resume, client: Client, after: int, known: dict[str, int | None]) -> None:
        self._resume = resume
        self._client = client
        self._after = after
        self._known = known
        self._live = False
        self._era = resume.era

    def start(self, head: bytes) -> None:
        """Send the first piece; head: what goes before it."""
        if head:
            self._new_gaps()  # those that the head tells
        self._client.catch_up([head, *self.refill()], self.refill)

    def refill(self) -> Sequence[bytes]:
        """The next frames for the client; none if it is live now, or if ids have begun anew: then it is
        told of the gap, and is live from there on."""
        while not self._live and self._era == self._resume.era:
            frames = self._batch()
            if frames:
                return frames
        return ()

    def _batch(self) -> Sequence[bytes]:
        """The next piece. It is empty where a custom application's sendEvent left all of it out."""
        history, client = self._resume.history, self._client
        frames: list[bytes] = []
        gaps = self._new_gaps()
        if gaps:
            frames.append(encode_gap(gaps))
        missed = history.with_events_after(self._after, client.channels)
        answer = self._resume.answer(self._after, missed)
        if client.shares_frames:
            frames += answer.frames
        elif rendered := client.rendered(answer.events):
            frames.append(rendered)
        if answer.events:
            self._after = answer.events[-1].seq
        if answer.complete:
            self._live = True
            self._resume.go_live(client)
        return frames

    def _new_gaps(self) -> list[str]:
        """The channels that have forgotten what is still to be sent, each time they do."""
        history = self._resume.history
        gaps = []
        for channel in history.gaps(self._after, self._client.channels, self._resume.clock()):
            floor = history.floor(channel)
            if channel not in self._known or self._known[channel] != floor:
                self._known[channel] = floor
                gaps.append(channel)
        return gaps


def _bounded(events: Iterator[Event]) -> Iterable[Event]:
    size = 0
    for count, event in enumerate(events, 1):
        yield event
        size += len(event.frame)
        if size >= BATCH or count >= BATCH_EVENTS:
            return
