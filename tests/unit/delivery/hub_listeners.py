"""The events and the clients of `hub_model`, as it remembers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.harness.eventstream import Parser
from tests.unit.fakes import FakeSocket


@dataclass
class Published:
    """An event: its number, which is its message, and what decides who receives it."""

    number: int
    channels: tuple[str, ...]
    excluded: str | None
    ttl: float | None
    keep: bool
    seq: int = 0

    def is_for(self, name: str) -> bool:
        """Whether a client of this channel or pattern receives it."""
        return any(
            name == channel or ("*" in name and fnmatchcase(channel, name)) for channel in self.channels
        )


@dataclass(frozen=True)
class Gap:
    """A gap that a client was told of. last: the number of the newest event when it was received."""

    channels: frozenset[str]
    last: int


@dataclass
class Listener:
    """What is behind a client: it reconnects with its last id, and keeps what it receives.

    starts: the positions after which its channels are due. has_past: channels were added with an older id:
    their past may repeat events, and its connection is its last.
    """

    channels: list[str]
    starts: dict[str, int]
    client_id: str | None
    fields: bool
    state: bool
    poll: bool
    limit: int
    room: int | None
    left: set[str] = field(default_factory=set)
    has_past: bool = False
    has_added: bool = False
    is_over: bool = False
    client: Any = None
    socket: FakeSocket = field(default_factory=FakeSocket)
    answer: bytes | None = None
    received: list[int | Gap] = field(default_factory=list)
    parser: Parser = field(default_factory=Parser)
    parsed: int = 0
    asked: str = ""  # the id with which it has connected
    position: str = ""  # where its stream starts

    @property
    def last_id(self) -> str:
        """With which it reconnects."""
        return self.parser.last_id or self.position

    def names_of(self, event: Published) -> list[str]:
        """The channels, present or former, under which it receives the event."""
        return [name for name in (*self.channels, *self.left) if event.is_for(name)]
