"""A port for those who run the server: is it well, shall it get clients, what does it do.

``/healthz`` says that it works, ``/readyz`` whether it shall be given clients, and if not why;
``/metrics`` is for Prometheus, ``/stats`` for people. By default on the loopback interface only:
channel names are not for everybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from cyclone_sse.daemon.metrics import CONTENT_TYPE, Metrics
from cyclone_sse.daemon.operator_page import add_page
from cyclone_sse.server import media_files


class Running(Protocol):
    """The service, as far as it is known here."""

    application: Any
    settings: Any
    reactor: Any
    tls: Any

    def not_ready(self) -> list[str]:
        """Why it shall get no clients; nothing where it shall."""

    def connection_count(self) -> int:
        """How many connections are open."""


class Page(Resource):
    """One path. render: gives status, content type and body."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], tuple[int, str, bytes]]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: Request) -> bytes:
        """Answer with what is so at this moment."""
        status, kind, body = self._answer(request)
        request.setResponseCode(status)
        request.setHeader("Content-Type", kind)
        request.setHeader("Cache-Control", "no-store")
        return body


class QuietSite(Site):
    """Logs no requests: whoever watches the server asks every few seconds."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Nothing."""


class Admin:
    """The pages of one service."""

    def __init__(self, service: Running) -> None:
        self._service = service
        broker = service.application.broker
        self._metrics = Metrics(broker.hub, service.connection_count, lambda: broker.available)

    def site(self) -> Site:
        """What makes the connections of the port."""
        root = Resource()
        for path, answer in (
            (b"healthz", self._health),
            (b"readyz", self._ready),
            (b"metrics", self._figures),
            (b"stats", self._stats),
        ):
            root.putChild(path, Page(answer))
        add_page(root, self._service, media_files())
        return QuietSite(root)

    def _health(self, request: Request) -> tuple[int, str, bytes]:
        return _json(200, {"status": "ok"})

    def _ready(self, request: Request) -> tuple[int, str, bytes]:
        reasons = self._service.not_ready()
        if reasons:
            return _json(503, {"status": "not ready", "reasons": reasons})
        return _json(200, {"status": "ready"})

    def _figures(self, request: Request) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE, self._metrics.text()

    def _stats(self, request: Request) -> tuple[int, str, bytes]:
        return _json(200, self._service.application.broker.stats())


def _json(status: int, value: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()
