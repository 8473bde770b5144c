"""The exceptions of calls to the server. ``reason`` is the server's own, if its answer has one."""

from __future__ import annotations


class CycloneSSEError(Exception):
    """A call to the server failed.

    ``reason`` says why; ``status`` is the HTTP status of the answer, or None if there was no answer.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason if status is None else f"{reason} (HTTP {status})")
        self.reason = reason
        self.status = status


class Refused(CycloneSSEError):
    """The server refused the call: the same call would be refused again. Nothing was published."""


class NotAllowed(Refused):
    """The key or the token is missing, wrong, or not for this channel (401, 403)."""


class Unavailable(CycloneSSEError):
    """The server, its broker or the network did not answer in time; the same call may succeed later.

    ``published`` is False if nothing was published, and None if that is unknown. To repeat the call later
    without publishing twice, pass this ``idempotency_key``.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        *,
        retry_after: float | None = None,
        published: bool | None = None,
    ) -> None:
        super().__init__(reason, status)
        self.retry_after = retry_after
        self.published = published
        self.idempotency_key: str | None = None
