"""What was published, what each client saw of it, and whether that is all of it, once, in order.

Each message is JSON that names its channels, each with the number that it has there, as
`{"base": 17, "user-3": 2}`. So a client that has seen number 16 of a channel must see 17 next, however
often it is cut off in between. Pure: no socket, no clock.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

GAP = "sse-gap"
OWN_TYPES = "sse-"  # how the types of the server's own events begin


@dataclass(slots=True)
class Ledger:
    """The publishers' side: by channel, the last number begun, the last that the server took, the open ones.

    Whether an open number was taken is unknown: no answer has come, or none will, since the server died.
    """

    begun: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    open: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def next_message(self, channels: Iterable[str]) -> str:
        """A new message to these channels, which counts as begun."""
        numbers = {}
        for channel in channels:
            self.begun[channel] += 1
            numbers[channel] = self.begun[channel]
            self.open[channel].add(numbers[channel])
        return json.dumps(numbers)

    def was_taken(self, message: str) -> None:
        """The server has said 200 to it."""
        for channel, number in json.loads(message).items():
            self.taken[channel] = max(self.taken[channel], number)
            self.open[channel].discard(number)

    def due(self, channel: str, after: int, before: int) -> int:
        """How many of the numbers between these two were taken, and so must have come."""
        return before - after - 1 - sum(after < number < before for number in self.open[channel])


@dataclass(slots=True)
class Findings:
    """What all witnesses together found."""

    deliveries: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    gaps: int = 0
    own_events: int = 0  # of the server: who is present, say
    examples: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether each event came once and in order. A gap that is told is no fault of this kind."""
        return not (self.lost or self.doubled or self.reordered)

    def note(self, what: str) -> None:
        """Keep the first few in words, to look for the cause."""
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
        self._unsure: set[str] = set()  # channels of which nothing has come yet
        self._excused: set[str] = set()  # channels of a gap that was told
        self._latest_id = (0, 0)

    def opened(self) -> None:
        """The head of the first response has been read: whatever is begun from now on must come."""
        self._seen = {channel: self.ledger.begun[channel] for channel in self.channels}
        self._unsure = set(self.channels)

    def event(self, type_: str, data: str, event_id: str) -> None:
        """One event, in the order in which the client got them."""
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
        """The channels of which not everything has come that the server took."""
        return [channel for channel, seen in self._seen.items() if seen < self.ledger.taken[channel]]

    def close(self) -> None:
        """The end: what has not come until now is lost."""
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
            # published while the first stream was being opened: it may come, and from there on all must
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
