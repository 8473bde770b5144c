"""Sends clients that reconnect the events that they missed.

Missed events are read from the history piece by piece, as the client reads them, so that the server keeps at
most one piece for a slow client, and no turn of the reactor is long. While a client catches up it is sent no
live events, since the history has them. The client becomes live in the same call that finds no more events to
send, so that no event is missing and none is sent twice. A client that does not read fast enough is served in
the same way again: see ``SocketClient``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.client import CLOSING, GONE, KEEP, NOT_LIVE, NOTHING, Client, Dropped, Piece
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode_gap, id_line
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.questions import Answers, ChannelQuestions, PatternQuestions, Questions, Step
from cyclone_sse.delivery.starting_point import EARLIEST, NO_ID_OF_OURS, Start, starting_point
from cyclone_sse.delivery.states import States
from cyclone_sse.errors import Ending
from cyclone_sse.slices import Slices


class Resume:
    """Brings clients from their last event to the present.

    reactor: the clock, and the turns in which the log is read for patterns. patterns: those that are matched
    with the channels of the log; None if there are none.
    """

    def __init__(
        self,
        history: History,
        ids: EventIds,
        counters: Counters,
        reactor: Any,
        states: States,
        *,
        patterns: PatternIndex | None = None,
    ) -> None:
        self.history = history
        self._states = states
        self.ids = ids
        self.clock = reactor.seconds
        self.counters = counters
        self.readings = Slices(reactor, fair=True)
        self._reactor = reactor
        self._has_read = False  # the log, in this turn
        self.era = 0  # changes when ids are reset: positions from before mean nothing then
        self._patterns = patterns
        self._answers = Answers(history, self.clock)

    def start(self, client: Client) -> None:
        """Send a client the events after its last event id; then it is live."""
        assert client.last_event_id is not None
        start, client.last_event_id = starting_point(client.last_event_id, self.ids), None
        catch_up = CatchUp(self, client, self._questions(client, client.channels, start))
        catch_up.counts = start != EARLIEST and not client.is_poll
        client.skip_until = NOT_LIVE
        catch_up.start(start.after)

    def start_with_states(self, client: Client) -> None:
        """Send a client without an id the states of its channels, then the present position.

        The position is sent also where there are no states: a client waits for it to know them all.
        """
        piece = self.states(client, client.channels)
        if not piece.frames and not client.is_poll:
            piece = Piece((id_line(self.ids.now()) + b"\n",), (KEEP,))
        self.go_live(client)
        if piece.frames:
            client.last_sent_at = self.clock()
            client.send(piece.joined(), piece.frames, piece.seqs)

    def states(
        self,
        client: Client,
        channels: Iterable[str],
        after: float = NOT_LIVE,
        moment: EventId | None = None,
    ) -> Piece:
        """The states of these channels, and a position: the states have older ids.

        after: a position; states after it that the history holds are sent as what was missed. moment: the
        position, by default the present one; states after it are sent as live events.
        """
        names = list(channels)
        states = [
            event
            for event in self._states.of(names)
            if (moment is None or event.seq <= moment.seq)
            and (event.seq <= after or not any(self.history.is_held(name, event) for name in names))
        ]
        if not states:
            return NOTHING
        batch = Batch(states)
        position = id_line(moment or self.ids.now()) + b"\n"
        if client.render is not None:
            frames: Sequence[bytes] = (client.render(states), position)
        else:
            frames = (*batch.rendering_for(client).frames, position)
        return Piece(frames, (KEEP,) * len(frames))

    def add(
        self, client: Client, channels: Sequence[str], last_event_id: EventId | str, until: float
    ) -> Iterator[None]:
        """Send a client that is open what it missed of these channels, to which it was not subscribed before.

        In slices. Until these are over, no event whose walk has not started must be sent. until: the
        position of the first such event.
        """
        until = min(until, self.history.last + 1)
        era, was_live = self.era, client.skip_until != NOT_LIVE
        questions = ChannelQuestions(self._answers, channels, starting_point(last_event_id, self.ids))
        while client.state is not GONE and era == self.era:
            if was_live and client.skip_until == NOT_LIVE:
                return  # it reads too slowly, and has fallen back: what is left is part of that
            gaps, batch, is_complete = questions.next()
            if batch is not None and batch.seqs[-1] >= until:
                events = [event for event in batch.events if event.seq < until]
                batch, is_complete = Batch(events) if events else None, True
            piece = self.piece(client, gaps, batch, is_complete)
            if piece.frames:
                client.send(piece.joined(), piece.frames, piece.seqs)
            if is_complete:
                return
            yield

    def fall_back(self, client: Client, dropped: Dropped) -> None:
        """Continue from the history for a client that did not read the waiting events."""
        self.counters.deliveries -= dropped.events
        self.counters.sent_bytes -= dropped.bytes
        start = NO_ID_OF_OURS if dropped.after is None else Start(dropped.after, True)
        questions = self._questions(client, client.channels, start)
        questions.ignore_unknown()
        client.skip_until = NOT_LIVE
        client.catch_up(NOTHING, CatchUp(self, client, questions).refill)

    def may_read(self) -> bool:
        """Whether the log may be read for a client at once: once in each turn. Others wait in `readings`.

        Without this, each of a thousand clients of patterns that come at once would read some of it.
        """
        if self._has_read or len(self.readings):
            return False
        self._has_read = True
        self._reactor.callLater(0, self._end_turn)
        return True

    def _end_turn(self) -> None:
        self._has_read = False

    def reset(self) -> None:
        """Stop catching up, since ids were reset and the history was dropped."""
        self.era += 1

    def go_live(self, client: Client, after: int = 0) -> None:
        """Send the client live events from now on, since all earlier ones have been sent.

        after: a position up to which it needs nothing, even if this process has not come to it yet.
        """
        client.skip_until = max(self.ids.last, after)

    def piece(
        self,
        client: Client,
        gaps: Collection[str],
        batch: Batch | None,
        is_last: bool,
        after: float = NOT_LIVE,
    ) -> Piece:
        """The bytes of a gap and of events for one client. after: the position that it has reached.

        A gap that no event follows brings the present id, or the client would receive the same gap again.
        """
        piece = NOTHING if batch is None else self._events(client, batch)
        if not gaps:
            return piece
        if client.wants_state:
            states = self.states(client, gaps, after)
            if states.frames:
                # With events to follow, the position is theirs.
                kept = states.frames[:-1] if piece.frames else states.frames
                frames = (encode_gap(gaps), *kept, *piece.frames)
                return Piece(frames, (*(KEEP,) * (1 + len(kept)), *piece.seqs))
        gap = encode_gap(gaps, None if piece.frames or not is_last else self.ids.now())
        return Piece((gap, *piece.frames), (KEEP, *piece.seqs))

    def _events(self, client: Client, batch: Batch) -> Piece:
        if client.client_id in batch.excluded:
            due = [event for event in batch.events if event.excluded != client.client_id]
            if not due:
                return NOTHING
            batch = Batch(due)
        events: Sequence[Event] = batch.events
        if client.shares_frames:
            rendering = batch.rendering_for(client)
            piece = Piece(rendering.frames, batch.seqs, rendering.data)
        else:
            if isinstance(client, PollClient):
                events, data = client.choose(events)
            else:
                data = client.render(events) if client.render is not None else b""
            if not data:
                return NOTHING
            piece = Piece((data,), (events[0].seq,))
        self.counters.deliveries += len(events)
        self.counters.sent_bytes += len(piece.joined())
        return piece

    def _questions(self, client: Client, channels: Sequence[str], start: Start) -> Questions:
        if self._patterns is not None and any(name in self._patterns for name in channels):
            return PatternQuestions(self.history, channels, start, self._patterns)
        return ChannelQuestions(self._answers, channels, start)


class CatchUp:
    """One client on its way to the present. counts: whether it is counted as resumed."""

    def __init__(self, resume: Resume, client: Client, questions: Questions) -> None:
        self._resume = resume
        self._client = client
        self._questions = questions
        self._gaps: set[str] = set()  # to be sent before the next event
        self._is_live = False
        self._era = resume.era
        self._after = 0
        self._had_gap = False
        self.counts = False

    def start(self, after: int) -> None:
        """Send the first piece. after: where the client starts."""
        self._after = after
        client = self._client
        piece = self.refill()
        if piece.frames:
            client.last_sent_at = self._resume.clock()
            if self._is_live or client.is_poll:
                client.send(piece.joined(), piece.frames, piece.seqs)
            else:
                client.catch_up(piece, self.refill)

    def refill(self) -> Piece:
        """The next piece for the client; empty if it is live now, or if ids were reset.

        After a reset it is sent a gap event, and is live from there on. An empty piece also means that the
        log is being read in other turns; what is found there is sent then.
        """
        while self._is_under_way:
            if isinstance(self._questions, PatternQuestions) and not self._resume.may_read():
                self._resume.readings.add(self._read_on())
                break
            after = self._questions.after
            piece = self._apply(self._questions.next(), after)
            if piece.frames:
                return piece
        return NOTHING

    @property
    def _is_under_way(self) -> bool:
        return (
            not self._is_live and self._era == self._resume.era and self._client.state not in (CLOSING, GONE)
        )

    def _apply(self, step: Step, after: int) -> Piece:
        """The piece that comes of a step: a gap goes out with the event after it, or as the last."""
        resume, client = self._resume, self._client
        self._gaps.update(step.gaps)
        self._had_gap = self._had_gap or bool(self._gaps)
        piece = NOTHING
        if step.batch is not None or step.is_complete:
            piece = resume.piece(client, self._gaps, step.batch, step.is_complete, after)
            if not step.is_complete and not any(seq is not KEEP for seq in piece.seqs):
                piece = NOTHING  # nothing of these events is for this client
        if piece.frames:
            self._gaps = set()
        if client.is_poll and piece.frames:
            self._is_live = True  # it never goes live with more to come: that would leave the rest behind
        elif step.is_complete:
            self._is_live = True
            # An id ahead of this process, from another one, stands for events that the client has.
            resume.go_live(client, self._after)
            self._count()
        return piece

    def _count(self) -> None:
        if self.counts:
            counters = self._resume.counters
            if self._had_gap:
                counters.resumes_gap += 1
            else:
                counters.resumes_complete += 1

    def _read_on(self) -> Iterator[None]:
        """Read the log in slices up to the next events for the client, and end a client for which that fails.

        Without this it would stay open, and never be live. It reconnects with the id of its last event.
        """
        try:
            yield from self._read_to_next()
        except Exception:
            self._client.abort(Ending.FAILED)
            raise  # into the log

    def _read_to_next(self) -> Iterator[None]:
        while self._is_under_way:
            after = self._questions.after
            piece = self._apply(self._questions.next(), after)
            if piece.frames:
                self._client.last_sent_at = self._resume.clock()
                self._client.catch_up(piece, self.refill)
                return
            yield
