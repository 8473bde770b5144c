"""The service: whether it is ready, and in which turn of the reactor it ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.daemon.service import ServerService
from cyclone_sse.daemon.sockets import HTTP, Bound, bind
from cyclone_sse.http.connection import READING
from cyclone_sse.http.server_state import EXPIRED_AT_ONCE
from cyclone_sse.options import with_defaults
from cyclone_sse.server import App
from tests.unit.delivery.clients import turns
from tests.unit.fakes import TurnClock


def test_it_does_not_end_in_the_midst_of_reading_the_brokers_last_word() -> None:
    clock = TurnClock()
    app = App({}, clock)
    last_word: Deferred[None] = Deferred()
    app.broker.disconnect = lambda: last_word  # type: ignore[method-assign]
    service = ServerService(app, with_defaults({}), None, sockets=lambda: (), reactor=clock)
    service.privilegedStartService()
    service.startService()
    stopped = service.stopService()
    turns(clock)
    last_word.callback(None)  # from the transport's doRead, which may be followed by its doWrite
    assert not stopped.called, "the reactor would close the transport under its own feet"
    turns(clock)
    assert stopped.called


class Slow:
    """A connection whose client takes its last bytes for longer than the server waits."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.state = READING
        self.transport = self

    def shut(self) -> None:
        self.steps.append("shut")

    def abortConnection(self) -> None:
        self.steps.append("aborted")


def test_a_crowd_is_closed_in_several_turns() -> None:
    clock = TurnClock()
    service = ServerService(App({}, clock), with_defaults({}), None, sockets=lambda: (), reactor=clock)
    service.privilegedStartService()
    service.startService()
    steps: list[str] = []
    crowd = 2 * EXPIRED_AT_ONCE + 10
    service.connections.open.update(Slow(steps) for _ in range(crowd))
    stopped = service.stopService()
    for _ in range(50):
        before = len(steps)
        clock.turn()
        assert len(steps) - before <= EXPIRED_AT_ONCE
        if len(steps) == before:
            clock.rightNow += 1
    assert stopped.called
    assert steps == ["shut"] * 2 * crowd + ["aborted"] * crowd


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (None, []),
        ("the broker is away", ["broker away"]),
        ("the history file cannot be written", ["the history file cannot be written"]),
    ],
)
def test_readiness_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, problem: str | None, reason: list[str]
) -> None:
    clock = TurnClock()
    app = App({}, clock)
    monkeypatch.setattr(type(app.broker), "problem", problem)
    service = ServerService(app, with_defaults({}), None, sockets=lambda: (), reactor=clock)
    assert service.not_ready() == ["starting", *reason]


def test_a_port_that_another_program_was_quicker_to_open_ends_the_server() -> None:
    """Both can bind a port before one of them listens, as a server does that still waits for its broker."""
    clock: Any = TurnClock()
    stops: list[str] = []
    clock.running, clock.stop = True, lambda: stops.append("stopped")
    (other,) = bind("127.0.0.1", 0)
    (late,) = bind("127.0.0.1", other.getsockname()[1])
    other.listen()
    service = ServerService(
        App({}, clock),
        with_defaults({}),
        None,
        sockets=lambda: [Bound(late, HTTP)],
        on_open=lambda: stops.append("opened"),
        reactor=clock,
    )
    service.privilegedStartService()
    service.startService()
    assert stops == ["stopped"]
    assert "starting" in service.not_ready()
    other.close()
    late.close()
