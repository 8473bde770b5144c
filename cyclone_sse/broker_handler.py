"""What the handlers have in common that work with the broker: subscribe, publish, stats."""

from __future__ import annotations

from cyclone_sse.access.rules import Rules, rules_of
from cyclone_sse.brokers.base import Broker
from cyclone_sse.http.handler import JsonHandler


class BrokerHandler(JsonHandler):
    """A handler with a broker and rules of access: those of its application."""

    @property
    def broker(self) -> Broker:
        """The application's broker."""
        broker: Broker = self.application.broker
        return broker

    @property
    def rules(self) -> Rules:
        """The application's rules of access."""
        return rules_of(self.application)
