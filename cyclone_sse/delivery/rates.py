"""The limit of events a second for each user: a token bucket for each user and kind of channel.

A bucket has tokens for BURST_TIME. Plain Python: the time, in seconds of a monotonic clock, is an argument.
Costs O(1) for each publication.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

from cyclone_sse.delivery.kinds import Kind

BURST_TIME = 2.0  # seconds whose events a user who was quiet may publish at once
USERS = 10_000  # buckets that are kept; the one unused for longest is dropped, which in practice is full


class Rates:
    """The buckets of all users."""

    def __init__(self) -> None:
        # The tokens that were left, and the time at which they were.
        self._left: OrderedDict[tuple[str | None, Kind], tuple[float, float]] = OrderedDict()

    def spend(self, user: str | None, events: Mapping[Kind, int], now: float) -> float:
        """Count events of this user, by the kinds of their channels.

        Returns 0, or the seconds to wait if they are too many for one of the kinds: then none is counted.
        More than a burst are too many at any time: infinity.
        """
        left, wait = {}, 0.0
        for kind, count in events.items():
            if kind.publish_rate is None:
                continue
            burst = max(1.0, BURST_TIME * kind.publish_rate)
            tokens, since = self._left.get((user, kind), (burst, now))
            tokens = left[kind] = min(burst, tokens + (now - since) * kind.publish_rate)
            if count > burst:
                wait = math.inf
            elif count > tokens:
                wait = max(wait, max(count - tokens, 1.0) / kind.publish_rate)
        for kind, tokens in left.items():
            self._left[user, kind] = (tokens if wait else tokens - events[kind], now)
            self._left.move_to_end((user, kind))
            if len(self._left) > USERS:
                self._left.popitem(last=False)
        return wait
