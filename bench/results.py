"""What was measured: for each metric, and in it for each contestant, a value for each block of each round."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

OURS, LIMIT, NCHAN = "cyclone-sse", "limit", "nchan"
EARLIER = "earlier"  # an earlier version of ours
REFERENCE = LIMIT  # where a trial has another measure than the limit, it stands in the same column


class LeftOut(Exception):
    """The reason why something cannot be measured here, in one line."""


class Results:
    """Values by metric and contestant; what was left out, with the reason."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.left_out: dict[str, str] = {}

    def add(self, metric: str, contestant: str, value: float) -> None:
        """One more value; those of two contestants are paired in the order in which they come."""
        self._values[metric][contestant].append(value)

    def __contains__(self, metric: str) -> bool:
        return metric in self._values

    @property
    def metrics(self) -> list[str]:
        """The names of all that was measured."""
        return list(self._values)

    def contestants(self, metric: str) -> list[str]:
        """The contestants of whom there are values."""
        return list(self._values[metric])

    def value(self, metric: str, contestant: str) -> float | None:
        """The median."""
        values = self._values.get(metric, {}).get(contestant)
        return median(values) if values else None

    def ratio(self, metric: str, contestant: str, reference: str = REFERENCE) -> float | None:
        """The median of the ratios to the reference in each pair: what slows a block slows both."""
        values = self._values.get(metric, {})
        if contestant == reference or not values.get(contestant) or not values.get(reference):
            return None
        pairs = zip(values[contestant], values[reference], strict=False)
        ratios = [
            one / other for one, other in pairs if other
        ]  # in a quick run the clock may not have ticked
        return median(ratios) if ratios else None
