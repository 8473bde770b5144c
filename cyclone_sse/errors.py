"""The errors that are expected, and the reasons why streams end.

    Refusal      a client's mistake, or a limit: the client is sent an HTTP status with a reason
    Unavailable  the broker does not accept messages: the publisher is answered with 503
    StartError   the server cannot start, and exits with one line
    Ending       the reason why a stream ended, by which metrics count; not an error

Any other exception is a bug, and is logged once with its traceback.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal


class StartError(SystemExit, Exception):
    """The server cannot start: the process exits with 1 and this line.

    It is an Exception too: without this, twistd in the background would not pass the line on to the process
    that the operator has started, which would then wait forever.
    """

    def __init__(self, reason: object) -> None:
        super().__init__(f"cyclone-sse: {reason}")


class Refusal(Exception):
    """The request is refused, and the client is sent the reason.

    status: the HTTP status. reason: one sentence for the client's author, without keys and names of internal
    hosts. headers: further headers, such as ``Retry-After``. details: further members of the answer.
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


def error_text(error: object) -> str:
    """The text of an error, for a line of the log that goes on after it."""
    return str(error).rstrip(".") or type(error).__name__


def call_each(steps: Iterable[Callable[[], object]]) -> None:
    """Call all of these, also after one that fails.

    Raises ValueError with the texts of all OSErrors and ValueErrors, each once, in one line.
    """
    problems: dict[str, None] = {}
    for step in steps:
        try:
            step()
        except (OSError, ValueError) as error:
            problems[str(error)] = None
    if problems:
        raise ValueError("; ".join(problems))


class Unavailable(Exception):
    """The broker did not accept a publication. The text is for the log, and may name hosts.

    published: False if certainly nothing was published, so that a publisher may try again without publishing
    twice; otherwise ``"unknown"``. ids: of the events, if they are to be written as soon as that is possible.
    """

    def __init__(
        self,
        reason: str = "",
        published: Literal[False, "unknown"] = "unknown",
        ids: Sequence[str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.published = published
        self.ids = ids


class Ending(enum.Enum):
    """Why a stream ended. The value is short and fixed: dashboards count by it."""

    LEFT = "left"  # the client closed, or its connection broke
    SLOW = "too slow"  # more waited for it than --client-buffer, of bytes that the history cannot send again
    STALLED = "stalled"  # it read nothing for --stall-timeout
    DRAINED = "drained"  # the server stops
    AGED = "aged"  # --max-age
    EXPIRED = "expired"  # its token or grant has expired
    ENDED = "ended"  # by POST /disconnect
    ONCE = "once"  # long polling: it was answered
    DENIED = "denied"  # the upstream refuses the channel
    FAILED = "failed"  # its missed events could not be read or rendered: a bug, which is logged
