"""The figures of the operator's page."""

from __future__ import annotations

import json
from typing import Any

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.figures import Figures
from cyclone_sse.daemon.metrics import Sources
from tests.unit.fakes import TurnClock


class Service:
    """A service with one broker."""

    def __init__(self, clock: TurnClock) -> None:
        self.broker = HttpBroker({}, reactor=clock)
        self.application: Any = self
        self.settings: Any = {}
        self.reactor: Any = clock

    def not_ready(self) -> list[str]:
        return ["draining"]

    def sources(self) -> Sources:
        return Sources(
            self.broker,
            connections=lambda: 7,
            longest_turn=lambda: 0.25,
            certificate_expiry=lambda: 2e9,
        )


def test_all_figures_go_into_json() -> None:
    clock = TurnClock()
    figures = json.loads(json.dumps(Figures(Service(clock), clock=lambda: 12.5).now()))
    assert (figures["connections"], figures["not_ready"], figures["time"]) == (7, ["draining"], 12.5)
    assert figures["memory_bytes"] > 1 << 20
    assert figures["open_files"] > 2
    assert (figures["longest_turn_seconds"], figures["slow"], figures["waiting_bytes"]) == (0.25, 0, 0)
    assert (figures["subscribers"], figures["history_events"], figures["certificate_expires"]) == (0, 0, 2e9)
    assert figures["broker"] == {"name": "http", "connected": True}
