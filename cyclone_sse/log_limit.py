"""How often a line is logged about what strangers, publishers or other servers do: once a minute.

Without a limit, they could fill the disk. A new kind of trouble is logged at once. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable

LOG_INTERVAL = 60.0  # seconds between two lines of one kind
MAX_KINDS = 50  # that are remembered; what more there are in a minute is not logged


class LogLimit:
    """When a line of each kind was logged last. clock: seconds."""

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
