"""The heartbeats of this server that are under way, and how late they are. Plain Python.

An upstream may accept messages and yet deliver none, so each accepted heartbeat must arrive on the connection
that receives.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

HEARTBEAT_WAIT = 15.0  # seconds in which an accepted heartbeat must arrive
HEARTBEAT_SLOW = 2.0  # seconds after which a missing heartbeat is reported as a problem


class Heartbeats:
    """The heartbeats that have not arrived yet. sender: the prefix of the tokens. clock: seconds."""

    def __init__(self, sender: str, clock: Callable[[], float]) -> None:
        self._sender = sender
        self._clock = clock
        self._sent: dict[str, float] = {}  # when, by token, the oldest first

    def __contains__(self, token: str) -> bool:
        return token in self._sent

    def add(self) -> str:
        """Expect a new heartbeat; returns its token."""
        token = f"{self._sender}-{secrets.token_hex(4)}"
        self._sent[token] = self._clock()
        return token

    def discard(self, token: str) -> None:
        """Do not expect this heartbeat any more: it may not have been sent, so its absence proves nothing."""
        self._sent.pop(token, None)

    def receive(self, token: str) -> None:
        """Note that this heartbeat has arrived, and do not expect earlier ones any more; ignore unknown
        tokens.
        """
        if token in self._sent:
            while next(iter(self._sent)) != token:
                del self._sent[next(iter(self._sent))]
            del self._sent[token]

    def clear(self) -> None:
        """Expect none, since the connection is a new one."""
        self._sent.clear()

    @property
    def are_late(self) -> bool:
        """Whether one has been missing for so long that it is a problem to report."""
        return bool(self._sent) and self._age() > HEARTBEAT_SLOW

    @property
    def are_lost(self) -> bool:
        """Whether one has been missing for so long that the connection is of no use."""
        return bool(self._sent) and self._age() >= HEARTBEAT_WAIT

    def _age(self) -> float:
        return self._clock() - next(iter(self._sent.values()))
