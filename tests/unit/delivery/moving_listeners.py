"""The events and the clients of `servers_model`, as it remembers them, and what each must have received."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cyclone_sse.delivery.client import NOT_LIVE
from cyclone_sse.delivery.events import EXPIRED_TYPE, GAP_TYPE, PRESENCE_TYPE, Event
from tests.harness.eventstream import Parser
from tests.unit.delivery.hub_listeners import Gap, Published


@dataclass
class Entry(Published):
    """An event. seq: its position. key: its idempotency key.

    is_sure: whether it must be received; not if it was refused, or if its server crashed before it was kept.
    """

    key: str | None = None
    is_sure: bool = True


@dataclass(frozen=True)
class Restart:
    """A connection with an id that means nothing to its server: events may come a second time."""


@dataclass(eq=False)
class Listener:
    """What is behind a client: it reconnects with its last id, and keeps what it receives.

    starts: the positions after which its channels are due, except what was lost before it came, `gone`.
    entries: all events. options: of its connections. left: channels that were removed. has_past: channels
    were added with an older id: their past may repeat events of several channels, and its connection is its
    last. is_ahead: its server had then not yet read up to its position, and sends a gap instead.
    """

    channels: list[str]
    starts: dict[str, int]
    entries: Mapping[int, Entry]
    options: dict[str, Any]
    server: Any = None
    client: Any = None
    socket: Any = None
    is_waiting: bool = False  # for its server to let it in
    answer: bytes | None = None
    position: str = ""  # where its stream starts
    asked: str = ""  # the id with which it has connected
    parser: Parser = field(default_factory=Parser)
    parsed: int = 0
    received: list[int | Gap | Restart] = field(default_factory=list)
    rooms: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    left: set[str] = field(default_factory=set)
    has_past: bool = False
    is_ahead: bool = False
    is_over: bool = False

    @property
    def last_id(self) -> str:
        """With which it reconnects."""
        return self.parser.last_id or self.position

    @property
    def sent(self) -> bytes:
        """All that it was sent on this connection."""
        if self.options["poll"]:
            return self.answer or b""
        return b"" if self.socket is None else bytes(self.socket.received)

    @property
    def renders(self) -> Callable[[Sequence[Event]], bytes] | None:
        """How its application writes events, if that is not as usual."""
        return self._render if self.options["renders"] else None

    def _render(self, events: Sequence[Event]) -> bytes:
        return b"".join([event.frame for event in events if not self.leaves_out(number_of(event))])

    def leaves_out(self, number: int) -> bool:
        """Whether its application does not send this event."""
        return bool(self.options["renders"]) and number % 3 == 0

    def receive(self, until: int | None, newest: int) -> None:
        """Parse what came. until: a byte at which the connection broke. newest: number of the last event."""
        new = self.sent[self.parsed : until]
        self.parsed += len(new)
        for event in self.parser.feed(new):
            if event.type == GAP_TYPE:
                self.received.append(Gap(frozenset(json.loads(event.data)["channels"]), newest))
            elif event.type == PRESENCE_TYPE:
                self._note_members(json.loads(event.data))
            elif event.type != EXPIRED_TYPE:
                self.received.append(int(event.data.split()[0]))

    def _note_members(self, said: dict[str, Any]) -> None:
        """Keep the list as a page does."""
        room = self.rooms.setdefault(said["channel"], {})
        if "members" in said:
            room["members"] = said["members"]
            room.pop("count", None)
        elif "count" in said:
            room["count"] = said["count"]
            room.pop("members", None)
        elif "members" in room:
            room["members"].update(said["joined"])
            for user in said["left"]:
                room["members"].pop(user, None)
        room["anonymous"] = said["anonymous"]

    # What it must have received.

    def faults(self, may_have_gaps: bool, noticed_late: set[int]) -> Iterator[str]:
        """What it received too often, in another order, without being due, or not at all.

        noticed_late: events whose loss its server may have noticed later.
        """
        yield from self._unasked(may_have_gaps or self.is_ahead)
        yield from self._repeated()
        if self.is_over:
            return
        yield from self._missing(noticed_late)
        if self.client is None or self.client.skip_until == NOT_LIVE:
            yield "it is not live"
        yield from self._unknown_states()

    def _unasked(self, may_have_gaps: bool) -> Iterator[str]:
        for item in self.received:
            if isinstance(item, Gap):
                if not may_have_gaps and Restart() not in self.received:
                    yield f"a gap of {set(item.channels)} without a loss"
            elif isinstance(item, int):
                if self._is_excluded(item) and not self.options["state"]:
                    yield f"{item} is not for it"
                if self.leaves_out(item):
                    yield f"{item} was left out by its application"

    def _is_excluded(self, number: int) -> bool:
        excluded = self.entries[number].excluded
        return excluded is not None and excluded == self.options["client_id"]

    def _is_repeatable(self, number: int) -> bool:
        entry = self.entries[number]
        return (bool(self.options["state"]) and entry.keep) or (
            self.has_past and len(self._names_of(entry)) > 1
        )

    def _names_of(self, entry: Entry) -> list[str]:
        """The channels, present or former, under which it receives the event."""
        return [name for name in (*self.channels, *self.left) if entry.is_for(name)]

    def _repeated(self) -> Iterator[str]:
        parts: list[list[int]] = [[]]
        for item in self.received:
            if isinstance(item, Restart):
                parts.append([])
            elif isinstance(item, int) and not self._is_repeatable(item):
                parts[-1].append(item)
        for part in parts:
            if len(part) != len(set(part)):
                yield f"some came twice: {part} in {self.received}"
            for name in self.channels if self.has_past else [None]:
                mine = [entry for entry in map(self.entries.__getitem__, part) if entry.seq]
                seqs = [each.seq for each in mine if name is None or self._names_of(each) == [name]]
                if any(earlier > later for earlier, later in pairwise(seqs)):
                    yield f"not in order: {part} in {self.received}"

    def _missing(self, noticed_late: set[int]) -> Iterator[str]:
        places: dict[Any, int] = {}
        for place, item in enumerate(self.received):
            places.setdefault(item, place)
        for name in self.channels:
            due = [each for each in self.entries.values() if each.is_for(name) and each.is_sure]
            next_place = len(self.received)
            for event in sorted(due, key=lambda event: event.seq, reverse=True):
                number = event.number
                if event.seq <= self.starts[name] or number in self.gone or self.leaves_out(number):
                    continue
                if number in places:
                    next_place = next_place if self._is_repeatable(number) else places[number]
                elif event.ttl is None and not self._is_excluded(number):
                    # A poll may be sent the gap of a channel behind events that another channel has, too.
                    is_late = number in noticed_late or self.options["poll"]
                    told = self.received if is_late else self.received[:next_place]
                    gaps = [item for item in told if isinstance(item, Gap) and name in item.channels]
                    if not any(gap.last >= number for gap in gaps):
                        yield f"{number} of {name} is missing in {self.received}"

    def _unknown_states(self) -> Iterator[str]:
        for name in self.channels if self.options["state"] else ():
            state = self.server.hub.states.get(name)
            number = None if state is None else number_of(state)
            if number is None or number in self.received or self.leaves_out(number):
                continue
            if self.entries[number].seq > self.starts[name] and self.entries[number].excluded is None:
                yield f"it does not know the state {number} of {name}"

    def wrong_members(self, name: str, users: set[str], anonymous: int, most: int) -> Iterator[str]:
        """What it knows of a channel, if these are not its members. most: more are only counted."""
        room = self.rooms.get(name, {})
        known = room["count"] if "count" in room else set(room.get("members", ()))
        if known != (len(users) if len(users) > most else users) or room.get("anonymous") != anonymous:
            yield f"{name} has {room}, not {users} and {anonymous}"


def number_of(event: Event) -> int:
    """The number of an event."""
    return int(event.message.split()[0])
