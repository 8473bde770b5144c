"""Some events in id order, and their bytes, which clients share.

Most clients receive the frames unchanged. Clients with ``fields=channel`` also receive the names under which
they are subscribed to each event. All clients with the same names share the same bytes, whether they are live
or resume. Plain Python.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, channel_line, except_line
from cyclone_sse.delivery.losses import Missing

_NONE: frozenset[str] = frozenset()
BATCH_BYTES = 256 * 1024  # bytes taken from the history at a time
BATCH_EVENTS = 1000  # likewise: about 2 ms
RENDERINGS = 1000  # kept of one batch; with more, clients rarely share one
RENDERED_BYTES = 4 * 2**20  # of the kept ones together; each may be as long as the batch


class Rendering(NamedTuple):
    """The bytes of some events: in one piece, and one frame for each event."""

    data: bytes
    frames: Sequence[bytes]


class _NamedRenderings:
    """The bytes of some events with the names of their channels. names: those of all the events."""

    __slots__ = ("_by_names", "_bytes", "_events", "_sets", "names")

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._sets = [frozenset(event.names) for event in events]
        self.names = _NONE.union(*self._sets)
        self._by_names: dict[tuple[str, ...], Rendering] = {}
        self._bytes = 0  # of the renderings that are kept

    def of(self, channels: Sequence[str]) -> Rendering:
        """The bytes for clients of these channels."""
        names = self.names
        # A single name is not looked up in the channels, which may have changed since the walk started.
        own_names = tuple(names) if len(names) == 1 else tuple([name for name in channels if name in names])
        rendering = self._by_names.get(own_names)
        if rendering is None:
            if len(self._by_names) >= RENDERINGS or self._bytes >= RENDERED_BYTES:
                # Without this, a large event for very many channels would be in memory once for each.
                self._by_names.clear()
                self._bytes = 0
            pairs = zip(self._events, self._sets, strict=True)
            frames = [lines_with_names(event, own_names, of_event) + event.frame for event, of_event in pairs]
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            self._bytes += len(data) * min(len(frames), 2)
            rendering = self._by_names[own_names] = Rendering(data, frames)
        return rendering


class Batch:
    """Events and their bytes. seqs: the positions of the events. plain: the bytes without names."""

    __slots__ = ("_named", "events", "excluded", "plain", "seqs")

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.excluded: frozenset[str] = _NONE
        if len(events) == 1:  # the usual case
            event = events[0]
            self.plain = Rendering(event.frame, (event.frame,))
            self.seqs: Sequence[int] = (event.seq,)
            if event.excluded is not None:
                self.excluded = frozenset((event.excluded,))
        else:
            frames = tuple([event.frame for event in events])
            self.plain = Rendering(b"".join(frames), frames)
            self.seqs = tuple([event.seq for event in events])
            self.excluded = frozenset([event.excluded for event in events if event.excluded is not None])
        self._named: _NamedRenderings | None = None  # made when a client asks for names

    def rendering_for(self, client: Client) -> Rendering:
        """The bytes for a client that shares them."""
        return self.with_names(client.channels) if client.fields else self.plain

    @property
    def has_one_name(self) -> bool:
        """Whether the bytes with names are the same for all clients that receive these events."""
        return len(self._renderings().names) == 1

    def with_names(self, channels: Sequence[str]) -> Rendering:
        """The bytes with the names for clients of these channels."""
        return self._renderings().of(channels)

    def _renderings(self) -> _NamedRenderings:
        if self._named is None:
            self._named = _NamedRenderings(self.events)
        return self._named


class Step(NamedTuple):
    """The next part of the events that a client missed.

    gaps: the channels of which more may be missing. batch: events, None if there are none. is_complete: there
    is nothing after them; otherwise the next call continues.
    """

    gaps: Mapping[str, Missing]
    batch: Batch | None
    is_complete: bool


def lines_with_names(event: Event, own_names: Sequence[str], names: Collection[str] | None = None) -> bytes:
    """The lines with those of the client's names under which the event was published.

    Also with the id of the client that the event excludes, if any: tabs of a browser that share a stream are
    one client for the server, and only the tab itself can skip its own events. names: those of the event, if
    the caller has them as a set.
    """
    names = frozenset(event.names) if names is None else names
    if len(names) < len(own_names):
        shown = [name for name in event.names if name in own_names]
    else:
        shown = [name for name in own_names if name in names]
    lines = [channel_line(name) for name in shown]
    if event.excluded is not None:
        lines.append(except_line(event.excluded))
    return b"".join(lines)
