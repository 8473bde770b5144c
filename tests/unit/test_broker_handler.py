"""What the handlers have in common that work with the broker."""

from __future__ import annotations

from cyclone_sse.broker_handler import BrokerHandler
from tests.unit.http.peer import MemoryServer


def test_a_handler_has_the_broker_and_the_rules_of_its_application() -> None:
    server = MemoryServer({"http-secret": "s"})
    seen: list[BrokerHandler] = []

    class Looking(BrokerHandler):
        def get(self) -> None:
            seen.append(self)

    server.app.add_handlers(".*$", [(r"/look", Looking)])
    server.request("GET", "/look")
    assert seen[0].broker is server.broker
    assert seen[0].rules is server.app.rules
