"""The limit of lines in the log about clients, publishers or other servers: one a minute for each kind.

Without a limit, they could fill the disk. A new kind of problem is logged at once. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable

LOG_INTERVAL = 60.0  # seconds between two lines of one kind
MAX_KINDS = 50  # kinds that are remembered; further kinds within a minute are not logged


class LogLimit:
    """The time at which a line of each kind was logged last. clock: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def acquire(self, kind: str) -> bool:
        """Note that a line of this kind is logged now; False if it must not be."""
        now = self._clock()
        last = self._logged.get(kind)
        if last is not None and now - last < LOG_INTERVAL:
            return False
        if len(self._logged) >= MAX_KINDS:
            self._logged = {each: at for each, at in self._logged.items() if now - at < LOG_INTERVAL}
            if len(self._logged) >= MAX_KINDS:
                return False
        self._logged[kind] = now
        return True
