"""The published messages, and whether each client received all of them once and in order.

Each message is JSON with its channels and its number in each channel, as `{"base": 17, "user-3": 2}`. A
client that has seen number 16 of a channel must see 17 next, even if the client was cut off in between.
Pure: no socket, no clock.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

GAP = "sse-gap"
OWN_TYPES = "sse-"  # the prefix of the types of the server's own events


@dataclass(slots=True)
class Ledger:
    """The published numbers of each channel: the last begun, the last accepted by the server, the open ones.

    Whether an open number was accepted is unknown: there is no answer yet, or the server has died.
    """

    begun: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    open: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def next_message(self, channels: Iterable[str]) -> str:
        """Begin a new message to these channels, and return its JSON."""
        numbers = {}
        for channel in channels:
            self.begun[channel] += 1
            numbers[channel] = self.begun[channel]
            self.open[channel].add(numbers[channel])
        return json.dumps(numbers)

    def was_taken(self, message: str) -> None:
        """Note that the server has answered the message with 200."""
        for channel, number in json.loads(message).items():
            self.taken[channel] = max(self.taken[channel], number)
            self.open[channel].discard(number)

    def due(self, channel: str, after: int, before: int) -> int:
        """The number of accepted messages between these two, which a client must receive."""
        return before - after - 1 - sum(after < number < before for number in self.open[channel])


@dataclass(slots=True)
class Findings:
    """The totals of all witnesses."""

    deliveries: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    gaps: int = 0
    own_events: int = 0  # of the server, as presence
    examples: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether each event came once and in order. Announced gaps do not count."""
        return not (self.lost or self.doubled or self.reordered)

    def note(self, what: str) -> None:
        """Keep the first faults as text, to find their cause."""
        if len(self.examples) < 20:
            self.examples.append(what)


class Witness:
    """One client's view of its channels over all its connections."""

    def __init__(self, name: str, channels: Iterable[str], ledger: Ledger, findings: Findings) -> None:
        self.name = name
        self.ledger = ledger
        self.channels = list(channels)
        self.findings = findings
        self._seen: dict[str, int] = {}  # empty until the first stream is open
        self._unsure: set[str] = set()  # channels of which nothing has been received yet
        self._excused: set[str] = set()  # channels with an announced gap
        self._latest_id = (0, 0)

    def opened(self) -> None:
        """Note that the first response has begun: all messages that are begun later must be received."""
        self._seen = {channel: self.ledger.begun[channel] for channel in self.channels}
        self._unsure = set(self.channels)

    def event(self, type_: str, data: str, event_id: str) -> None:
        """Check the next event that the client has received."""
        if type_ == GAP:
            self.findings.gaps += 1
            self._excused.update(json.loads(data)["channels"])
            return
        if type_.startswith(OWN_TYPES):
            self.findings.own_events += 1
            return
        self.findings.deliveries += 1
        self._look_at_order(event_id)
        for channel, number in json.loads(data).items():
            if channel in self._seen:
                self._look_at_number(channel, number)

    def missing(self) -> list[str]:
        """The channels in which accepted messages have not been received."""
        return [channel for channel, seen in self._seen.items() if seen < self.ledger.taken[channel]]

    def close(self) -> None:
        """Count the messages that have not been received as lost."""
        for channel in self.missing():
            self._miss(channel, self.ledger.taken[channel] + 1)

    def _look_at_order(self, event_id: str) -> None:
        milliseconds, counter, _ = event_id.split("-", 2)
        position = (int(milliseconds), int(counter))
        if position < self._latest_id:
            self.findings.reordered += 1
            self.findings.note(f"{self.name}: {event_id} after {self._latest_id}")
        self._latest_id = position

    def _look_at_number(self, channel: str, number: int) -> None:
        seen = self._seen[channel]
        if number <= seen:
            # An event that was published while the first stream was opened may come; all later ones must.
            if channel not in self._unsure:
                self.findings.doubled += 1
                self.findings.note(f"{self.name}: {channel} {number} after {seen}")
                return
        elif number > seen + 1:
            self._miss(channel, number)
        self._unsure.discard(channel)
        self._excused.discard(channel)
        self._seen[channel] = number

    def _miss(self, channel: str, number: int) -> None:
        seen = self._seen[channel]
        lost = 0 if channel in self._excused else self.ledger.due(channel, seen, number)
        if lost:
            self.findings.lost += lost
            self.findings.note(f"{self.name}: {channel} {seen}, then {number}")
