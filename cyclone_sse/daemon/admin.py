"""The admin port for operators: health, readiness and figures of the server.

``/healthz`` answers while the process works, and ``/readyz`` whether it may receive clients, with the reasons
if not; ``/metrics`` is for Prometheus, ``/stats`` for people. By default the port is on the loopback
interface only, since the names of channels are not public.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.web.server import Request, Site

from cyclone_sse import __version__
from cyclone_sse.daemon.admin_resource import AdminRequest, AdminResource, Root
from cyclone_sse.daemon.figures import AdminService
from cyclone_sse.daemon.metrics import CONTENT_TYPE, Metrics
from cyclone_sse.daemon.operator_page import add_page
from cyclone_sse.server import media_files


class Page(AdminResource):
    """A path of a few lines. answer: returns status, content type and body."""

    def __init__(self, answer: Callable[[Request], tuple[int, str, bytes]]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: Request) -> bytes:
        """Answer with the present state."""
        status, kind, body = self._answer(request)
        request.setResponseCode(status)
        request.setHeader("Content-Type", kind)
        request.setHeader("Cache-Control", "no-store")
        return body


class QuietSite(Site):
    """A site that logs no requests: monitoring asks every few seconds."""

    noisy = False
    displayTracebacks = False
    requestFactory = AdminRequest

    def log(self, request: Any) -> None:
        """Log nothing."""


class Admin:
    """The pages of one service."""

    def __init__(self, service: AdminService) -> None:
        self._service = service
        self._metrics = Metrics(service.sources())

    def site(self) -> Site:
        """Make the factory of the port's connections."""
        root = Root()
        for path, answer in (
            (b"healthz", self._health),
            (b"readyz", self._ready),
            (b"metrics", self._figures),
        ):
            root.putChild(path, Page(answer))
        add_page(root, self._service, media_files())
        return QuietSite(root)

    def _health(self, request: Request) -> tuple[int, str, bytes]:
        return json_answer(200, {"status": "ok", "version": __version__})

    def _ready(self, request: Request) -> tuple[int, str, bytes]:
        reasons = self._service.not_ready()
        if reasons:
            return json_answer(503, {"status": "not ready", "reasons": reasons})
        return json_answer(200, {"status": "ready"})

    def _figures(self, request: Request) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE, self._metrics.text()


def json_answer(status: int, value: Any) -> tuple[int, str, bytes]:
    """An answer in JSON."""
    return status, "application/json", json.dumps(value).encode()
