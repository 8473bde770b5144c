"""Clients for the hub that keep what they are sent, and cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclone_sse.delivery.client import Client, Piece, Refill, Sent, Seq, State
from cyclone_sse.delivery.events import Event, EventIds
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.pattern_index import PatternIndex
from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.delivery.transport_client import make_client
from cyclone_sse.direct_socket import direct_socket
from cyclone_sse.errors import Ending
from cyclone_sse.options import with_defaults
from tests.unit.fakes import TurnClock

EPOCH = 1_700_000_000.0  # the wall clock when a test starts


class Recorder(Client):
    """A client that takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.OPEN
        self.got: list[bytes] = []

    def send(self, data: bytes, frames: Sequence[bytes] = (), seqs: Sequence[Seq] = ()) -> None:
        if self.state is State.OPEN:
            self.got.append(data)

    def deliver(self, events: Sequence[Event]) -> Sent:
        assert self.render is not None
        self.send(self.render(events))
        return Sent(len(events), len(self.got[-1]))

    def catch_up(self, piece: Piece, refill: Refill) -> None:
        while piece.frames:
            self.send(b"".join(piece.frames))
            piece = refill()

    def end(self, why: Ending) -> None:
        self.state, self.ending = State.GONE, why

    abort = end

    def progress(self) -> object:
        return 0

    @property
    def data(self) -> list[str]:
        """The data of all events so far."""
        lines = b"".join(self.got).decode().splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def with_state(**attributes: object) -> Recorder:
    client = Recorder()
    client.wants_state = True
    for name, value in attributes.items():
        setattr(client, name, value)
    return client


def make_hub(
    clock: TurnClock,
    complete: bool = True,
    ids: EventIds | None = None,
    patterns: PatternIndex | None = None,
    **settings: Any,
) -> Hub:
    """A hub with these options; ``ping_interval`` stands for ``ping-interval``."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return Hub(
        with_defaults(named), complete, clock, ids, patterns=patterns, wall=lambda: EPOCH + clock.seconds()
    )


def socket_client(transport: Any, head: bytes = b"", limit: int = 1 << 20) -> SocketClient:
    """A client of the kind that this transport gets, with the usual limit."""
    return make_client(transport, head, limit, direct_socket(transport), nothing_waits=True)


def turns(clock: TurnClock, most: int = 1000) -> int:
    """Let the reactor turn until nothing is left to do at once. Gives how many turns that took."""
    for count in range(most):
        if not any(call.getTime() <= clock.seconds() for call in clock.calls):
            return count
        clock.turn()
    raise AssertionError("it does not come to an end")
