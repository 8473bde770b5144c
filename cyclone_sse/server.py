"""The application: the handlers, their paths, and the broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cyclone.web import Application
from twisted.internet.interfaces import IReactorTime
from twisted.python.reflect import namedAny

from cyclone_sse import brokers
from cyclone_sse.access.rules import make_rules
from cyclone_sse.handlers import BroadcastHandler, DisconnectHandler, PublishHandler, StatsHandler
from cyclone_sse.http.handler import NotFoundHandler
from cyclone_sse.http.requests import Request, fixed_routes
from cyclone_sse.http.static_files import File, MediaHandler, load
from cyclone_sse.options import with_defaults
from cyclone_sse.publish import ClearHandler
from cyclone_sse.queries import PresenceHandler, StateHandler

_UNKNOWN = "Not Found: streams are at /?channels=..., publishing is at /publish"
_NO_ORDERS = "this server takes no orders by HTTP: see --http-secret and --http-publish"
_HOW_TO_ENABLE = {
    "/publish": "publishing by HTTP is off: see --http-publish",
    "/disconnect": _NO_ORDERS,
    "/clear": _NO_ORDERS,
    "/presence": "no channel has presence: see --channels",
    "/stats": "the statistics are off here: see --stats",
}

Route = tuple[Any, ...]  # a regular expression, a handler, and maybe its keywords


class NowhereHandler(NotFoundHandler):
    """Answers 404 for unknown paths, and for paths that an option enables, with its name."""

    @property
    def reason(self) -> str:
        """The reason in the answer."""
        return _HOW_TO_ENABLE.get(self.request.path, _UNKNOWN)


class App(Application):  # type: ignore[misc]
    """The default application, unless ``--app`` names another; subclass it to change a part.

    settings: the options; missing ones have their defaults. broker: shared by the handlers. reactor: the
    global one if None. Raises ValueError, in one line, for an option that cannot be used.
    """

    # A subclass names its own here, and keeps the rest.
    broadcast_handler: ClassVar[type[Any]] = BroadcastHandler
    publish_handler: ClassVar[type[Any]] = PublishHandler
    disconnect_handler: ClassVar[type[Any]] = DisconnectHandler
    stats_handler: ClassVar[type[Any]] = StatsHandler
    presence_handler: ClassVar[type[Any]] = PresenceHandler
    state_handler: ClassVar[type[Any]] = StateHandler
    clear_handler: ClassVar[type[Any]] = ClearHandler

    def __init__(self, settings: Mapping[str, Any], reactor: IReactorTime | None = None) -> None:
        self.broker: brokers.Broker = self.make_broker(with_defaults(settings), reactor)
        self.rules = make_rules(self.broker)
        super().__init__(self.routes(), transforms=[], error_handler=NowhereHandler)
        # There are no templates here; each request would prepare for them all the same.
        self.ui_modules: dict[str, Any] = {}

    def make_broker(self, settings: Mapping[str, Any], reactor: IReactorTime | None) -> brokers.Broker:
        """The broker that ``--broker`` names."""
        kind: Any = brokers.broker_class(settings["broker"])
        broker: brokers.Broker = kind(settings, reactor)
        return broker

    def routes(self) -> list[Route]:
        """The paths and their handlers; a subclass may add to them."""
        settings = self.broker.settings
        routes: list[Route] = [(r"/", self.broadcast_handler), (r"/state", self.state_handler)]
        if settings["stats"]:
            routes.append((r"/stats", self.stats_handler))
        if settings["channels"]:
            routes.append((r"/presence", self.presence_handler))
        # Where publishers cannot be identified, the handler answers how to change that.
        publishes = settings["http-publish"] or self.rules.refuse_publishers
        if publishes:
            routes.append((r"/publish", self.publish_handler))
        if publishes or self.rules.know_publishers:
            # Where publishing needs a key, so does ending streams.
            routes.append((r"/disconnect", self.disconnect_handler))
            routes.append((r"/clear", self.clear_handler))
        return routes + (_demo() if settings["demo"] else [])

    def add_handlers(self, host_pattern: str, host_handlers: Any) -> None:
        """Add routes, for the hosts that match this pattern."""
        super().add_handlers(host_pattern, host_handlers)
        self.fixed_routes = fixed_routes(self.handlers)

    def __call__(self, request: Request) -> Any:
        """Run the handler of a request. cyclone itself tries the patterns of hosts and paths in turn."""
        spec = self.fixed_routes.get(request.path)
        if spec is None or self.transforms or self.settings.get("debug"):
            return super().__call__(request)
        handler = spec.handler_class(self, request, **spec.kwargs)
        handler._execute([])
        return handler

    def log_request(self, handler: Any) -> None:
        """Log nothing: at ten thousand requests a second, a line for each would cost too much."""


def load_app(name: str) -> Any:
    """The application class with this dotted name, from the path or the working directory.

    Raises ImportError with the reason when there is none.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = namedAny(name)
    except Exception as error:
        # Any error of the user's module while it is imported.
        raise ImportError(f"--app={name}: {error or type(error).__name__}") from error
    if not callable(found):
        raise ImportError(f"--app={name}: this is not a class")
    return found


def media_files() -> dict[str, File]:
    """The files for browsers: below the package when installed, in the project's root otherwise."""
    package = Path(__file__).parent
    return load(next(path for path in (package / "media", package.parent / "media") if path.is_dir()))


def _demo() -> list[Route]:
    """The routes of the demo page, its script, and the plugins."""
    files = {"files": media_files()}
    return [(r"/(demo)", MediaHandler, files), (r"/media/(.*)", MediaHandler, files)]
