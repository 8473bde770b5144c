"""Sends clients that reconnect the events that they missed.

Missed events are read from the history piece by piece, as the client reads them, so that the server keeps at
most one piece for a slow client, and no turn of the reactor is long. While a client catches up it is sent no
live events, since the history has them. The client becomes live in the same call that finds no more events to
send, so that no event is missing and none is sent twice. A client that does not read fast enough is served in
the same way again: see ``SocketClient``. So is a client that is open and adds a channel with an earlier
position: see ``positions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.batch import Batch, Step
from cyclone_sse.delivery.client import (
    CLOSING,
    GONE,
    KEEP,
    NOT_LIVE,
    NOTHING,
    OPEN,
    Client,
    Dropped,
    Piece,
    Refill,
)
from cyclone_sse.delivery.events import EventId, EventIds, id_line
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.log_reader import LogReader
from cyclone_sse.delivery.log_turns import LogTurns
from cyclone_sse.delivery.losses import UNKNOWN, Missing
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.pieces import Pieces
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.positions import Positions, Readers
from cyclone_sse.delivery.starting_point import EARLIEST, Start, starting_point
from cyclone_sse.delivery.states import States
from cyclone_sse.errors import Ending


class Resume:
    """Brings clients from their last event to the present.

    reactor: the clock, and the turns in which the log is read for patterns. patterns: the index of the
    patterns that are matched here; None if patterns are subscribed to upstream.
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
        self.pieces = Pieces(history, states, ids, counters)
        self.ids = ids
        self.clock = reactor.seconds
        self.counters = counters
        self.log_turns = LogTurns(reactor)
        self.era = 0  # changes when ids are reset: positions from before mean nothing then
        self._readers = Readers(history, self.clock, patterns)
        self._catch_ups: dict[Client, CatchUp] = {}  # those under way
        self.due_gap: dict[Client, None] = {}  # clients that will be sent the gap of a reset of ids

    def start(self, client: Client) -> None:
        """Send a client the events after its last event id; then it is live."""
        assert client.last_event_id is not None
        start, client.last_event_id = starting_point(client.last_event_id, self.ids), None
        if start == EARLIEST and isinstance(client, PollClient):
            client.until = inf  # all at once: with a part of them, the next poll would be told of a gap
        if self._send_all(client, start):
            return
        positions = Positions(client.channels, self._readers, client.is_poll)
        catch_up = self._catch_ups[client] = CatchUp(self, client, positions)
        catch_up.counts = start != EARLIEST and not client.is_poll
        catch_up.start(start)

    def _send_all(self, client: Client, start: Start) -> bool:
        """Send all missed events if they are one answer without a gap, as usual: the client is live then."""
        if not start.reports_gap or client.is_poll or self._readers.has_pattern(client.channels):
            return False
        gaps, missed = self.history.missed(start.after, client.channels, self.clock())
        if gaps:
            return False
        answer = self._readers.answers.after(start.after, missed)
        if not answer.is_complete:
            return False
        self.go_live(client, start.after)
        self.counters.resumes_complete += 1
        batch = answer.batch
        if client.wants_state:
            batch = self.pieces.with_states(batch, client.channels, start.after, inf)
        if batch is not None:
            self.send(client, self.pieces.events(client, batch))
        return True

    def start_with_states(self, client: Client) -> None:
        """Send a client without an id the states of its channels, then the present position.

        The position is sent also where there are no states: a client waits for it to know them all.
        """
        present = self.ids.present()
        piece = self.pieces.states(client, client.channels, at=present)
        if not piece.frames:
            piece = Piece((id_line(present) + b"\n",), (KEEP,))
        self.go_live(client, present.seq)
        self.send(client, piece)

    def send(self, client: Client, piece: Piece, refill: Refill | None = None) -> None:
        """Send a piece, and later what ``refill`` returns. The time of the next ping is counted from here."""
        if piece.frames:
            client.last_sent_at = self.clock()
            if refill is None:
                client.send(piece.joined(), piece.frames, piece.seqs)
            else:
                client.catch_up(piece, refill)

    def add(
        self,
        client: Client,
        channels: Sequence[str],
        last_event_id: EventId | str | None,
        first_waiting: Callable[[], float],
    ) -> Iterator[None] | None:
        """Send an open client the missed events of these channels, to which it was not subscribed before.

        first_waiting: the position of the first event whose walk has not started. Returns None, or work to
        be done in slices, before any walk that has not started, and not within one.
        """
        start = starting_point(last_event_id, self.ids) if last_event_id else None
        catch_up = self._catch_ups.get(client)
        if catch_up is not None:
            catch_up.add(channels, start)
            return None
        if start is None or not channels or client.skip_until == NOT_LIVE or client in self.due_gap:
            return None  # it is live, or will be after the gap of a reset
        before = [name for name in client.channels if name not in channels]
        catch_up = self._catch_ups[client] = CatchUp(self, client, Positions(before, self._readers))
        catch_up.after = int(client.skip_until)
        catch_up.positions.ignore_unknown(before)
        catch_up.add(channels, start)
        return catch_up.send_past(first_waiting)

    def remove(self, client: Client) -> None:
        """Send a client that catches up nothing more of channels to which it is not subscribed any more."""
        catch_up = self._catch_ups.get(client)
        if catch_up is not None:
            catch_up.remove()
            if not client.channels:
                self.stop(client)

    def stop(self, client: Client) -> None:
        """Stop catching up for a client that has left, or that is sent the gap of a reset."""
        self.due_gap.pop(client, None)
        catch_up = self._catch_ups.pop(client, None)
        if catch_up is not None:
            catch_up.stop()

    def fall_back(self, client: Client, dropped: Dropped) -> None:
        """Continue from the history for a client that did not read the waiting events."""
        self.counters.deliveries -= dropped.events
        self.counters.sent_bytes -= dropped.bytes
        if client in self.due_gap:
            # It will be live after the gap. Without this, it would be sent the events of the new ids before
            # that, and once more behind it.
            client.skip_until = NOT_LIVE
            return
        catch_up = self._catch_ups.get(client)
        if catch_up is None:
            positions = Positions(client.channels, self._readers)
            positions.ignore_unknown(client.channels)
            catch_up = self._catch_ups[client] = CatchUp(self, client, positions)
        # None: the gap of a reset was among these.
        after, gaps = (self.ids.old, client.channels) if dropped.after is None else (dropped.after, ())
        catch_up.go_back(after, gaps)
        client.catch_up(NOTHING, catch_up.refill)

    def reset(self, clients: Iterable[Client]) -> None:
        """Stop catching up, since ids were reset and the history was dropped. clients: will be sent a gap."""
        self.era += 1
        self._catch_ups.clear()
        self.due_gap.update(dict.fromkeys(clients))

    def go_live(self, client: Client, after: int = 0) -> None:
        """Send the client live events from now on, since all earlier ones have been sent.

        after: a position up to which it needs nothing, even if this process has not come to it yet.
        """
        self.go_live_at(client, max(self.ids.last, after))

    def go_live_at(self, client: Client, position: int) -> None:
        """Send the client live events after this position."""
        client.skip_until = position
        self._catch_ups.pop(client, None)


class CatchUp:
    """A client that is sent the events between its position and the present.

    positions: of its channels. after: the position up to which it has received what was published. counts:
    whether it is counted as resumed.
    """

    def __init__(self, resume: Resume, client: Client, positions: Positions) -> None:
        self.positions = positions
        self._resume = resume
        self._client = client
        self._gaps: dict[str, Missing] = {}  # to be sent before the next event
        self._states: set[int] = set()  # the positions of those that followed a gap
        self._has_begun = False
        self._is_over = False  # it is live, is stopped, or was a poll and has its answer
        self._era = resume.era
        self.after = 0
        self._had_gap = False
        self.counts = False

    def add(self, channels: Sequence[str], start: Start | None) -> None:
        """Read these channels too. start: None if they were added without an id."""
        if start is None and not self._has_begun:
            self.positions.join(channels)  # the client is live, so they are as the others
            return
        present = max(self._resume.ids.last, self.after)
        self.positions.add(channels, start or Start(present, False), present)

    def remove(self) -> None:
        """Leave out the channels to which the client is not subscribed any more."""
        present = frozenset(self._client.channels)
        self.positions.keep(present)
        self._gaps = {name: each for name, each in self._gaps.items() if name in present}

    def stop(self) -> None:
        """Send nothing more."""
        self._is_over = True

    def go_back(self, position: int, gaps: Iterable[str] = ()) -> None:
        """Read what the client was sent last, and may not have received, again from this position on.

        gaps: channels whose events it may have missed before.
        """
        self._gaps.update(dict.fromkeys(gaps, UNKNOWN))
        self.after = position
        self.positions.go_back(position)
        self._has_begun = True
        self._client.skip_until = NOT_LIVE

    def start(self, start: Start) -> None:
        """Send the first piece. start: that of all the channels."""
        client = self._client
        self.go_back(start.after)
        if not start.reports_gap:
            self.positions.be_quiet(client.channels, start.after)
        piece = self.refill()
        self._resume.send(client, piece, None if self._is_over or client.is_poll else self.refill)

    def send_past(self, first_waiting: Callable[[], float]) -> Iterator[None]:
        """Send an open client the past of added channels, in slices, and end the client if that fails.

        A client that reads all of this at once is live again before the next walk starts, so that it also
        receives the waiting events that are not kept. To any other the rest is sent as it reads.
        """
        return self._abort_if_it_fails(self._send_past(first_waiting))

    def _send_past(self, first_waiting: Callable[[], float]) -> Iterator[None]:
        if self._has_begun or not self._is_under_way:
            return  # it has fallen back meanwhile, or has left
        resume, client = self._resume, self._client
        # The client has been sent the events before this, and those up to `skip_until` when it came.
        before = min(first_waiting(), resume.history.last + 1) - 1
        position = int(max(before, client.skip_until))
        self.go_back(position)
        while client.state is OPEN and self._is_under_way:
            if self.positions.are_all_at(position):
                self._is_over = True
                resume.go_live_at(client, position)
                at = EventId(position, resume.ids.node)
                resume.send(client, resume.pieces.of(client, self._gaps, None, at))
                return
            if not self._acquire_log():
                self._read_later()
                return
            resume.send(client, self._step())
            if client.state is OPEN and not self.positions.are_all_at(position):
                yield
        if self._is_under_way:
            client.catch_up(NOTHING, self.refill)

    def refill(self) -> Piece:
        """The next piece for the client; empty if it is live now, or if ids were reset.

        After a reset it is sent a gap event, and is live from there on. An empty piece also means that the
        log is being read in other turns; the events that are found are sent then.
        """
        while self._is_under_way:
            if not self._acquire_log():
                self._read_later()
                break
            piece = self._step()
            if piece.frames:
                return piece
        return NOTHING

    @property
    def _is_under_way(self) -> bool:
        return (
            not self._is_over and self._era == self._resume.era and self._client.state not in (CLOSING, GONE)
        )

    def _acquire_log(self) -> bool:
        """Note that the log is read now, if the next events are there; False if another turn must read it."""
        if isinstance(self.positions.reader, LogReader):
            return self._resume.log_turns.acquire()
        return True

    def _step(self) -> Piece:
        """Read on. Returns the next piece for the client, which may be empty."""
        step = self.positions.next()
        if not step.is_complete and self.positions.reached > self._resume.ids.last:
            # These are behind the client's other channels, and this process has not come so far yet. Without
            # this, they would miss events unnoticed, or the others would be sent some again.
            self._gaps.update(dict.fromkeys(self.positions.read, UNKNOWN))
        piece = self._apply(step, self.positions.before)
        if piece.frames:
            self.positions.note_sent()
        return piece

    def _apply(self, step: Step, after: int) -> Piece:
        """The piece that comes of a step: a gap goes out with the event after it, or as the last."""
        resume, client, ids = self._resume, self._client, self._resume.ids
        for name, missing in step.gaps.items():
            self._gaps[name] = missing.joined(self._gaps.get(name))
        self._had_gap = self._had_gap or bool(self._gaps)
        batch, piece = step.batch, NOTHING
        if client.wants_state:
            batch = self._with_states(step, after)
        gaps: Mapping[str, Missing] = self._gaps
        if isinstance(client, PollClient):
            gaps = client.choose_gaps(gaps, batch, step.is_complete)
        at = max(ids.now(), EventId(self.after, ids.node)) if step.is_complete and gaps else None
        if batch is not None or step.is_complete:
            piece = resume.pieces.of(client, gaps, batch, at, after)
            if not step.is_complete and not any(seq is not KEEP for seq in piece.seqs):
                piece = NOTHING  # nothing of these events is for this client
        if at is not None and isinstance(client, PollClient) and client.ends_before_gap(batch):
            # Without this, the next poll would be sent the gap again.
            piece = Piece((*piece.frames, id_line(at) + b"\n"), (*piece.seqs, KEEP))
        if piece.frames:
            if client.wants_state:
                self._states.update([state.seq for state in resume.pieces.unheld_states(gaps)])
            self._gaps = {}
        if client.is_poll and piece.frames:
            self._is_over = True  # it never goes live with more to come: that would leave the rest behind
        elif step.is_complete:
            self._is_over = True
            resume.go_live(client, self.after)  # an id ahead of this process stands for events that it has
            if self.counts:
                resume.counters.resumes_gap += self._had_gap
                resume.counters.resumes_complete += not self._had_gap
        return piece

    def _with_states(self, step: Step, after: int) -> Batch | None:
        """The events of a step, and the states that it lacks. Those of channels with gaps follow the gap."""
        channels = [name for name in self.positions.read if name not in self._gaps]
        until = inf if step.is_complete else self.positions.reached
        return self._resume.pieces.with_states(step.batch, channels, after, until, self._states)

    def _read_later(self) -> None:
        """Read the log in other turns, up to the next events for the client."""
        self._resume.log_turns.add(self._abort_if_it_fails(self._read_to_next()))

    def _read_to_next(self) -> Iterator[None]:
        while self._is_under_way:
            piece = self._step()
            if piece.frames:
                self._resume.send(self._client, piece, self.refill)
                return
            yield

    def _abort_if_it_fails(self, work: Iterator[None]) -> Iterator[None]:
        """Do the work, and end the client if that fails. It reconnects with the id of its last event.

        Without this it would stay open, and never be live.
        """
        try:
            yield from work
        except Exception:
            self._client.abort(Ending.FAILED)
            raise  # into the log
