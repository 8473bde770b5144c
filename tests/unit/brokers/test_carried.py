"""A field that a broker has no place for is refused, never dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.brokers.carried import ALL_FIELDS, check_carried
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal

PLAIN = publication("a", "x")
FULL = publication("a", "x", "t", 5, ttl=1.0, excluded="client", keep=True)


@pytest.mark.parametrize("missing", sorted(ALL_FIELDS))
def test_the_field_without_a_place_is_named(missing: str) -> None:
    check_carried([PLAIN, PLAIN], ALL_FIELDS - {missing}, "fake")
    check_carried([PLAIN, FULL], ALL_FIELDS, "fake")
    with pytest.raises(Refusal, match=f"the broker fake cannot transmit {missing}:") as refusal:
        check_carried([PLAIN, FULL], ALL_FIELDS - {missing}, "fake")
    assert refusal.value.status == 400


@pytest.mark.parametrize("field", ["retry", "ttl"])
def test_a_field_counts_also_where_its_value_is_nought(field: str) -> None:
    with pytest.raises(Refusal, match=f"cannot transmit {field}:"):
        check_carried([publication("a", "x", **{field: 0})], (), "fake")  # type: ignore[arg-type]


def test_very_many_publications_are_checked_for_the_missing_fields_alone() -> None:
    read: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> None:
            read.append(name)

    watched: Any = [Watched()] * 100
    check_carried(watched, ALL_FIELDS - {"retry"}, "fake")
    assert read == ["retry"] * 100
