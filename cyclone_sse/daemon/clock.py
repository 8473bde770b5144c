"""Time for all intervals: a clock that nobody sets.

Twisted's reactor measures its delays by the wall clock. When that is set back by an hour, there
are no pings, deadlines, expiries or retries for an hour; set forward, all of them fall due at
once. So the reactor's own ``seconds`` is replaced, which is where Twisted and everything here
asks for the time of an interval. Ids and dates for people keep to the wall clock.
"""

from __future__ import annotations

import time
from typing import Any


def count_monotonic_time(reactor: Any) -> None:
    """Make the reactor measure its delays by the monotonic clock.

    To be called before anything is scheduled: what already waits would wait for a time of the
    other clock. Raises RuntimeError then.
    """
    if reactor.seconds is time.monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("something was scheduled by the wall clock already")
    reactor.seconds = time.monotonic
