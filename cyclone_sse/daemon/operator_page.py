"""The operator's page on the admin port: the present figures, and the streams of users and channels.

The page reads the figures from an event stream, once a second. It is served only for its own Host, so that a
page of another site, whose name resolves to this machine (DNS rebinding), can neither read figures nor end
streams. The page reads the figures of each worker from the worker's own admin port.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from cyclone_sse.brokers import Broker
from cyclone_sse.daemon.admin_resource import AdminResource, header, host_in, refuse
from cyclone_sse.daemon.figures import AdminService, Figures
from cyclone_sse.daemon.streams import Streams
from cyclone_sse.errors import Unavailable
from cyclone_sse.http.static_files import File

FIGURES_INTERVAL = 1.0  # seconds between two figures
_PAGE = {b"": "operator.html", b"operator.js": "operator.js", b"operator.css": "operator.css"}


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Whether this host is an address, localhost or one of the names, none of which another site can have."""
    name = host_in(f"//{host}")
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guarded(AdminResource):
    """A path that is served only for the page's own Host, and not to pages of other sites.

    names: host names that count as own.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = names

    def answer(self, request: Request) -> Any:
        """Refuse requests of other sites, else answer."""
        host, origin = header(request, b"host") or "", header(request, b"origin")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Content-Type-Options", "nosniff")
        if not is_own_host(host, self._names):
            return refuse(request, 403, f"this page is not served as {host}: use localhost or an address")
        if origin is not None:
            # The page of another worker is on the same host, with another port.
            if host_in(origin) != host_in(f"//{host}"):
                return refuse(request, 403, f"a page of {origin} may not read this page")
            request.setHeader("Access-Control-Allow-Origin", origin)
            request.setHeader("Vary", "Origin")
        return super().answer(request)


class PageFile(Guarded):
    """A file of the page."""

    def __init__(self, names: Collection[str], file: File) -> None:
        super().__init__(names)
        self._file = file

    def render_GET(self, request: Request) -> bytes:
        """Send the file."""
        name = host_in(f"//{header(request, b'host')}")
        host = f"[{name}]" if ":" in name else name
        request.setHeader("Content-Type", self._file.type)
        request.setHeader(
            "Content-Security-Policy",
            f"default-src 'none'; connect-src 'self' http://{host}:*; script-src 'self'; style-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        return self._file.content


@implementer(IPushProducer)
class FlowOfFigures:
    """Whether a page reads the figures. Without this, those that it does not read would fill the memory."""

    is_full = False

    def pauseProducing(self) -> None:
        """Note that too many bytes wait for the page."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """Note that they were sent."""
        self.is_full = False

    def stopProducing(self) -> None:
        """Do nothing: the end of the request is noticed elsewhere."""


class FiguresStream(Guarded):
    """The figures, once a second, as an event stream. ports: the admin ports of all workers."""

    def __init__(
        self, names: Collection[str], figures: Figures, ports: Collection[int], reactor: IReactorTime
    ) -> None:
        super().__init__(names)
        self._figures = figures
        self._ports = list(ports)
        self._reactor = reactor

    def render_HEAD(self, request: Request) -> bytes:
        """Answer at once. Without this, the answer would never end."""
        request.setHeader("Content-Type", "text/event-stream")
        return b""

    def render_GET(self, request: Request) -> int:
        """Send figures until the page is closed."""
        request.setHeader("Content-Type", "text/event-stream")
        flow = FlowOfFigures()
        request.registerProducer(flow, True)
        sending = LoopingCall(self._send, request, flow)
        sending.clock = self._reactor
        request.notifyFinish().addBoth(lambda _: sending.stop() if sending.running else None)
        sending.start(FIGURES_INTERVAL)
        return NOT_DONE_YET

    def _send(self, request: Request, flow: FlowOfFigures) -> None:
        if flow.is_full:
            return
        figures = {**self._figures.now(), "ports": self._ports}
        request.write(f"data: {json.dumps(figures)}\n\n".encode())


class Connections(Guarded):
    """``GET /connections?user=&channel=``: the open streams of a user, of a channel, or of both."""

    def __init__(self, names: Collection[str], streams: Streams) -> None:
        super().__init__(names)
        self._streams = streams

    def render_GET(self, request: Request) -> Any:
        """Answer when all streams have been searched."""
        user, channel = _argument(request, b"user"), _argument(request, b"channel")
        if user is None and channel is None:
            return refuse(request, 400, "name a user or a channel: /connections?user=42")
        answer_later(request, self._streams.find(user, channel))
        return NOT_DONE_YET


class Stats(Guarded):
    """``GET /stats``: the channels that have subscribers, with their numbers."""

    def __init__(self, names: Collection[str], broker: Broker) -> None:
        super().__init__(names)
        self._broker = broker

    def render_GET(self, request: Request) -> bytes | int:
        """Send the table, which is made in slices if it is large."""
        request.setHeader("Content-Type", "application/json")
        if type(self._broker).stats is not Broker.stats:
            return json.dumps(self._broker.stats()).encode()
        table = self._broker.hub.stats_table.table()
        if isinstance(table, bytes):
            return table
        answer_later(request, table)
        return NOT_DONE_YET


class Disconnect(Guarded):
    """``POST /disconnect`` with ``user=`` or ``channel=`` in the query: ends their streams on all servers."""

    log = Logger()

    def __init__(self, names: Collection[str], broker: Broker) -> None:
        super().__init__(names)
        self._broker = broker

    def render_POST(self, request: Request) -> Any:
        """End the streams, and answer with the number of ended streams of this server."""
        if header(request, b"origin") is None and header(request, b"sec-fetch-site") is not None:
            return refuse(request, 403, "a form of another page may not end streams")
        user, channel = _argument(request, b"user"), _argument(request, b"channel")
        if (user is None) == (channel is None):
            return refuse(request, 400, "name a user, or a channel: /disconnect?user=42")
        order = {"user": user} if channel is None else {"channel": [channel]}
        self.log.info("the operator ends streams of {whose}", whose="a user" if user else "a channel")
        ended = maybeDeferred(self._broker.control, {"end": order})
        answer_later(request, ended.addCallback(lambda streams: {"streams": streams}))
        return NOT_DONE_YET


def answer_later(request: Request, answer: Any) -> None:
    """Answer with the result of the Deferred as JSON, unless the client has gone."""
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def send(value: Any) -> None:
        if not gone:
            request.setHeader("Content-Type", "application/json")
            request.write(value if isinstance(value, bytes) else json.dumps(value).encode())
            request.finish()

    def fail(failure: Failure) -> None:
        failure.trap(Unavailable)
        if not gone:
            request.write(refuse(request, 503, "the broker is away"))
            request.finish()

    answer.addCallbacks(send, fail)


def add_page(root: Resource, service: AdminService, files: Mapping[str, File]) -> None:
    """Add the page, and what it reads, to the paths of the admin port. files: those for browsers."""
    settings, broker, reactor = service.settings, service.application.broker, service.reactor
    names = {settings["admin-listen"], socket.gethostname()}
    ports = range(settings["admin-port"], settings["admin-port"] + settings["workers"])
    for path, name in _PAGE.items():
        root.putChild(path, PageFile(names, files[name]))
    root.putChild(b"figures", FiguresStream(names, Figures(service), ports, reactor))
    root.putChild(b"connections", Connections(names, Streams(broker.hub, reactor)))
    root.putChild(b"stats", Stats(names, broker))
    root.putChild(b"disconnect", Disconnect(names, broker))


def _argument(request: Request, name: bytes) -> str | None:
    values = (request.args or {}).get(name, [])
    return values[-1].decode(errors="replace") if values and values[-1] else None
