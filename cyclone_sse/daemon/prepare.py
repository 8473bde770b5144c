"""From the options to what is served: the application, and the transports of TLS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def prepare(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The application and the maker of TLS transports. Raises ValueError or ImportError."""
    try:
        from cyclone_sse.access.rules import rules_of
        from cyclone_sse.daemon.tls import TlsTransports
        from cyclone_sse.server import App, load_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is missing; install it with: pip install --no-deps -r requirements.txt"
        ) from None
    tls = TlsTransports(options["ssl-cert"], options["ssl-key"]) if options["use-ssl"] else None
    if not options["app"]:
        return App(options), tls
    application = load_app(options["app"])(options)
    if not hasattr(application, "broker"):
        raise ValueError(f"--app={options['app']}: the application has no attribute broker")
    rules_of(application)  # a key that will not do is found now, and not by the first client
    return application, tls
