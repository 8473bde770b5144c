"""The limit of events a second for each user: a token bucket for each user and kind of channel.

A bucket has tokens for two seconds, so that bursts of twice the rate are allowed. Plain Python: the time, in
seconds of a monotonic clock, is an argument. Costs O(1) for each publication.
"""

from __future__ import annotations

from collections import OrderedDict

from cyclone_sse.delivery.kinds import Kind

USERS = 10_000  # buckets that are kept; the one unused for longest is dropped, which in practice is full


class Rates:
    """The buckets of all users."""

    def __init__(self) -> None:
        # The tokens that were left, and the time at which they were.
        self._left: OrderedDict[tuple[str | None, Kind], tuple[float, float]] = OrderedDict()

    def spend(self, user: str | None, kind: Kind, events: int, now: float) -> float:
        """Count events of this user in channels of this kind. Returns 0, or the seconds to wait if they are
        too many; these are not counted then."""
        rate = kind.publish_rate
        if rate is None:
            return 0.0
        burst = max(1.0, 2 * rate)
        left, since = self._left.pop((user, kind), (burst, now))
        left = min(burst, left + (now - since) * rate)
        refused = events > left
        self._left[user, kind] = (left if refused else left - events, now)
        if len(self._left) > USERS:
            self._left.popitem(last=False)
        return max(events - left, 1.0) / rate if refused else 0.0
