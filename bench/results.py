"""The results: for each metric and each contestant, a value for each block of each round."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

OURS, LIMIT, NCHAN = "cyclone-sse", "limit", "nchan"
EARLIER = "earlier"  # an earlier version of ours
REFERENCE = LIMIT  # a trial that compares with something else than the limit uses the same column


class LeftOut(Exception):
    """The reason why something cannot be measured here, in one line."""


class Results:
    """Values by metric and contestant; what was left out, with the reason."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.left_out: dict[str, str] = {}

    def add(self, metric: str, contestant: str, value: float) -> None:
        """Add a value; the values of two contestants are paired in the order in which they were added."""
        self._values[metric][contestant].append(value)

    def __contains__(self, metric: str) -> bool:
        return metric in self._values

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that were measured."""
        return list(self._values)

    def contestants(self, metric: str) -> list[str]:
        """The contestants that have values."""
        return list(self._values[metric])

    def value(self, metric: str, contestant: str) -> float | None:
        """The median of the contestant's values; None if there are none."""
        values = self._values.get(metric, {}).get(contestant)
        return median(values) if values else None

    def ratio(self, metric: str, contestant: str, reference: str = REFERENCE) -> float | None:
        """The median of the pairs' ratios to the reference: other load on the machine slows both values."""
        values = self._values.get(metric, {})
        if contestant == reference or not values.get(contestant) or not values.get(reference):
            return None
        pairs = zip(values[contestant], values[reference], strict=False)
        ratios = [
            one / other for one, other in pairs if other
        ]  # in a quick run the clock may not have ticked
        return median(ratios) if ratios else None
