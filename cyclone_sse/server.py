"""The application: which handler is at which path, and which broker feeds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclone.web import Application
from twisted.python.reflect import namedAny

from cyclone_sse import brokers
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler
from cyclone_sse.http.media import MediaHandler, load
from cyclone_sse.http.responses import NotFoundHandler


class App(Application):  # type: ignore[misc]
    """The application that serves when no other is given with ``--app``.

    settings: the options; broker: what the handlers share.
    """

    noisy = False  # the service says what is being served

    def __init__(self, settings: Mapping[str, Any]) -> None:
        kind = settings.get("broker") or "http"
        self.broker: brokers.Broker = getattr(brokers, brokers.BROKERS[kind])(settings)
        handlers: list[tuple[Any, ...]] = [(r"/", BroadcastHandler), (r"/stats", StatsHandler)]
        publish = settings.get("http-publish")
        if kind == "http" if publish is None else publish:
            handlers.append((r"/publish", PublishHandler))
        if settings.get("demo"):
            handlers += _demo()
        super().__init__(handlers, transforms=[], error_handler=NotFoundHandler)
        # There are no templates here; each request would prepare for them all the same.
        self.ui_modules: dict[str, Any] = {}

    def log_request(self, handler: Any) -> None:
        """Nothing: at ten thousand requests a second a line for each is a cost, not a help."""


def load_app(name: str) -> Any:
    """The application class with this dotted name, from the path or the working directory.

    Raises ImportError with the reason when there is none.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = namedAny(name)
    except Exception as error:
        # Whatever the user's module does wrong when it is imported.
        raise ImportError(f"--app={name}: {error or type(error).__name__}") from error
    if not callable(found):
        raise ImportError(f"--app={name}: this is not a class")
    return found


def _demo() -> list[tuple[Any, ...]]:
    """The page to try things, its script, and the plugins: beside the package when installed,
    in the project's root otherwise."""
    package = Path(__file__).parent
    media = next(path for path in (package / "media", package.parent / "media") if path.is_dir())
    files = {"files": load(media)}
    return [(r"/(demo)", MediaHandler, files), (r"/media/(.*)", MediaHandler, files)]
