"""What goes wrong, as values: why a request is refused, that a broker is away, why a stream ended.

    Refusal      a client's mistake, or a limit: sent to it as an HTTP status with a reason
    Unavailable  the broker's fault: what was published could not be handed over; clients get 503
    Ending       not wrong at all: why a stream is over; metrics count by it

Everything else that is raised is a bug, and is logged with its traceback once.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Literal


class Refusal(Exception):
    """The request is refused, and the client gets the reason.

    status: the HTTP status. reason: one sentence for the client's author; it must name
    neither keys nor hosts of this side. headers: what goes with it (``Retry-After``, say). details: further
    members of the answer.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers: Mapping[str, str] = headers or {}
        self.details: Mapping[str, object] = details or {}


def error_body(reason: str, details: Mapping[str, object] | None = None) -> bytes:
    """The body of every refusal, as JSON in UTF-8: ``{"status": "error", "reason": ...}``."""
    return json.dumps({"status": "error", "reason": reason, **(details or {})}).encode()


class Unavailable(Exception):
    """What was published could not be handed over. The text is for the log: it may name hosts.

    published: False where nothing was published for certain, so that a publisher may try again without
    doubling anything; else ``"unknown"``.
    """

    def __init__(self, reason: str = "", published: Literal[False, "unknown"] = "unknown") -> None:
        super().__init__(reason)
        self.published = published


class Ending(enum.Enum):
    """Why a stream ended. The value is short and fixed: dashboards count by it."""

    LEFT = "left"  # the client closed, or its connection broke
    SLOW = "too slow"  # more waited for it than --client-buffer
    STALLED = "stalled"  # it took nothing of what waited for --stall-timeout
    DRAINED = "drained"  # the server stops
    AGED = "aged"  # --max-age
    EXPIRED = "expired"  # its token, or what the application granted, is over
    ENDED = "ended"  # by POST /disconnect
    ONCE = "once"  # long polling: it has got what it waited for
    DENIED = "denied"  # the upstream refuses the channel for good
    FAILED = "failed"  # what it missed could not be read or written: a bug, which the log has
