"""The pauses before a failed call is repeated: growing and random, for a limited time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from cyclone_sse_client.errors import Unavailable

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0  # seconds


class Attempts:
    """The attempts at one call, within ``patience`` seconds."""

    def __init__(self, patience: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._deadline = now() + patience
        self._pause = FIRST_PAUSE

    def pause(self, failure: Unavailable) -> float:
        """The seconds to wait before the next attempt; raises the failure if there is not enough time.

        The server's Retry-After is respected: earlier attempts would only add load to a server that is full,
        or whose broker is away.
        """
        pause = self._pause * random.uniform(0.5, 1.5)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if failure.retry_after is not None:
            # Without the random part, all publishers that received the same Retry-After would call at the
            # same moment.
            pause = failure.retry_after + random.uniform(0, 0.2)
        if self._now() + pause > self._deadline:
            raise failure
        return pause
