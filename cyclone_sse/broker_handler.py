"""The common base of the handlers that use the broker: all but those for static files and unknown paths."""

from __future__ import annotations

from typing import Any

from cyclone_sse.access.rules import Rules
from cyclone_sse.brokers.base import Broker
from cyclone_sse.http.handler import JsonHandler
from cyclone_sse.http.requests import Request


class BrokerHandler(JsonHandler):
    """A handler with a broker and rules of access: those of its application."""

    def __init__(self, application: Any, request: Request, **kwargs: Any) -> None:
        self.broker: Broker = application.broker
        self.rules: Rules = application.rules
        super().__init__(application, request, **kwargs)
