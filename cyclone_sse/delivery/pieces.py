"""What a client is sent of its past: gaps, events and states as bytes, with the position of each frame.

Clients that are sent the same share the bytes. Knows nothing of how far a client has come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf
from operator import attrgetter

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.batch import Batch
from cyclone_sse.delivery.client import KEEP, NOTHING, Client, Piece
from cyclone_sse.delivery.events import Event, EventId, EventIds, encode_gap, id_line
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.poll_client import PollClient
from cyclone_sse.delivery.states import States

_SEQ = attrgetter("seq")


class Pieces:
    """Makes the pieces. ids: has the present position. counters: of the events that are sent."""

    def __init__(self, history: History, states: States, ids: EventIds, counters: Counters) -> None:
        self._history = history
        self._states = states
        self._ids = ids
        self._counters = counters

    def gap(self, client: Client, channels: Collection[str], at: EventId) -> Sequence[bytes]:
        """The frames of a gap for a client that is live: with the states of these channels, if it wants them.

        at: the position of the gap.
        """
        states = NOTHING
        if client.wants_state:
            states = self.states(client, channels, at=at, safe=(at.seq, inf))
        # Without this, a client that is cut off before the states would never be sent them.
        return (encode_gap(channels, None if states.frames else at), *states.frames)

    def states(
        self,
        client: Client,
        channels: Iterable[str],
        after: float = inf,
        at: EventId | None = None,
        safe: tuple[float, float] = (0, inf),
    ) -> Piece:
        """The states of these channels, and then the client's position, since states have older ids.

        after: a position; states after it that the history holds are left out: they are sent as missed
        events, unless these exclude the client. at: the client's position, by default the present one; states
        after it are left out: they are sent as live events, unless these are lost. safe: the position before
        the states, and that of the events after them; a state outside of these is sent without its id.
        Without this, a client that is cut off after the state would be sent events again, or miss some.
        """
        names, is_held = frozenset(channels), self._history.is_held
        at = at or self._ids.now()
        states = [
            event
            for event in self._states.of(names)
            if (event.seq <= at.seq or event.seq in self._states.without_event)
            and (event.seq <= after or event.excludes(client.client_id) or not is_held(event, names))
        ]
        if not states:
            return NOTHING
        first, last = safe[0], min(safe[1], at.seq + 1)
        batch = Batch([event if first < event.seq < last else _without_id(event) for event in states])
        position = id_line(at) + b"\n"
        if client.render is not None:
            frames: Sequence[bytes] = (client.render(batch.events), position)
        else:
            frames = (*batch.rendering_for(client).frames, position)
        return Piece(frames, (KEEP,) * len(frames))

    def with_states(
        self,
        batch: Batch | None,
        channels: Iterable[str],
        after: int,
        until: float,
        known: Collection[int] = (),
    ) -> Batch | None:
        """The events, and among them the states that the history does not hold: those with a ``ttl``.

        after, until: the positions between which states are due. known: those of states that were sent.
        Without this, a client that wants states, and resumes, would not know one whose ``ttl`` is over.
        """
        events = list(batch.events) if batch is not None else []
        present = {event.seq for event in events}.union(known)
        states = [
            event
            for event in self.unheld_states(channels)
            if after < event.seq <= until and event.seq not in present
        ]
        return Batch(sorted(events + states, key=_SEQ)) if states else batch

    def unheld_states(self, channels: Iterable[str]) -> list[Event]:
        """The states of these channels that the history does not hold."""
        names = frozenset(channels)
        return [event for event in self._states.of(names) if not self._history.is_held(event, names)]

    def of(
        self,
        client: Client,
        gaps: Collection[str],
        batch: Batch | None,
        at: EventId | None,
        after: float = inf,
    ) -> Piece:
        """The bytes of a gap and of events for one client. after: the position that it has reached.

        at: the position that it has then, if that is known to be more than that of the last event. A gap that
        no event follows brings this id, or the client would receive the same gap again.
        """
        piece = NOTHING if batch is None else self.events(client, batch)
        if not gaps:
            return piece
        if client.wants_state:
            following = batch.seqs[0] if batch is not None and piece.frames else inf
            states = self.states(client, gaps, after, at, safe=(after, following))
            if states.frames:
                # With events to follow, the position is theirs.
                kept = states.frames[:-1] if piece.frames else states.frames
                frames = (encode_gap(gaps), *kept, *piece.frames)
                return Piece(frames, (*(KEEP,) * (1 + len(kept)), *piece.seqs))
        gap = encode_gap(gaps, None if piece.frames else at)
        return Piece((gap, *piece.frames), (KEEP, *piece.seqs))

    def events(self, client: Client, batch: Batch) -> Piece:
        """The bytes of these events for one client; the counters count them as sent."""
        if client.client_id in batch.excluded:
            due = [event for event in batch.events if not event.excludes(client.client_id)]
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
        self._counters.deliveries += len(events)
        self._counters.sent_bytes += len(piece.joined())
        return piece


def _without_id(event: Event) -> Event:
    """The event without the first line of its frame, which has the id."""
    copy = Event(event.id, event.frame[event.frame.index(b"\n") + 1 :], event.channels)
    copy.patterns, copy.excluded = event.patterns, event.excluded
    return copy
