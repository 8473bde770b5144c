"""cyclone-sse: a push server that sends browsers the events of their channels over EventSource.

From a publisher to a client: ``publish`` (HTTP) or ``brokers`` (Redis, AMQP), then ``delivery``: ``events``
(ids and bytes), ``history`` (what a client that reconnects has missed), ``channels`` (the subscribers),
``turn`` and ``fanout`` (the bytes for each client), ``socket_client`` (the socket of one client). A
subscription goes from ``subscribe`` to ``delivery.resume``. ``http`` reads requests, and ``access`` decides
about them. ``server`` is the application, ``options`` the table of options, and ``daemon`` runs the server
for twistd.
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

__version__ = "2.0.0"


def _add_vendored_cyclone(directory: Path) -> None:
    """Make ``import cyclone`` find the copy that the build has put here, unless cyclone is installed."""
    if directory.is_dir() and find_spec("cyclone") is None:
        sys.path.append(str(directory))
        # Without this Python 3.12 and up print a dozen warnings when they compile it: its regular
        # expressions escape nothing.
        warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*[/\\]vendored[/\\]cyclone[/\\]")


_add_vendored_cyclone(Path(__file__).with_name("vendored"))
