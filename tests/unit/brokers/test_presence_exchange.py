"""What a server that starts learns of the members elsewhere, and reports that the broker does not take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from cyclone_sse.brokers.presence_exchange import PRESENCE_WAIT, PresenceExchange
from cyclone_sse.errors import Unavailable
from tests.unit.delivery.clients import Recorder, make_hub
from tests.unit.fakes import TurnClock


class Server:
    """One server, and the orders that it hands to the others."""

    def __init__(self, kinds: Path) -> None:
        self.clock = TurnClock()
        self.hub = make_hub(self.clock, channels=str(kinds))
        self.orders: list[Mapping[str, Any]] = []
        self.connected = True
        self.exchange = PresenceExchange(self.hub.presence, self.control, lambda: self.connected, self.clock)

    def control(self, order: Mapping[str, Any]) -> Deferred[Any]:
        self.orders.append(order)
        return succeed(0) if self.connected else fail(Unavailable("the broker is away", False))

    def questions(self) -> list[str | None]:
        """Whom it has asked for members; None: all."""
        return [order["presence"]["ask"] for order in self.orders if "ask" in order["presence"]]

    def learn(self, connected: Deferred[Any]) -> Deferred[None]:
        return Deferred.fromCoroutine(self.exchange.learn(connected))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    return Server(kinds)


def test_it_asks_once_it_is_connected_and_waits_for_the_answers(server: Server) -> None:
    server.exchange.start()
    connecting: Deferred[None] = Deferred()
    learnt = server.learn(connecting)
    server.clock.pump([0.1] * 20)
    assert not server.questions()
    connecting.callback(None)
    server.clock.advance(0)
    assert server.questions() == [None]
    server.clock.advance(PRESENCE_WAIT / 2)
    assert not learnt.called
    server.clock.advance(PRESENCE_WAIT / 2)
    assert learnt.called


def test_a_broker_that_is_away_is_not_waited_for(server: Server) -> None:
    server.connected = False
    learnt = server.learn(succeed(None))
    server.clock.pump([PRESENCE_WAIT / 10] * 40)
    assert learnt.called


def test_a_report_that_the_broker_does_not_take_is_no_error(server: Server, failures: list[object]) -> None:
    server.exchange.start()
    client = Recorder()
    client.user = "7"
    server.hub.subscribe(client, ("room-1",))
    server.connected = False
    server.clock.pump([0.1] * 20)
    assert server.orders
    assert failures == []
