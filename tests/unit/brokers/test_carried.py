"""A field that a broker has no place for is refused, never dropped in silence."""

from __future__ import annotations

import pytest

from cyclone_sse.brokers.carried import ALL_FIELDS, check_carried, fields_in
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Refusal

PLAIN = publication("a", "x")
FULL = publication("a", "x", "t", 5, ttl=1.0, excluded="client", keep=True)


def test_each_field_is_found() -> None:
    assert fields_in(PLAIN) == []
    assert frozenset(fields_in(FULL)) == ALL_FIELDS


@pytest.mark.parametrize("missing", sorted(ALL_FIELDS))
def test_the_field_without_a_place_is_named(missing: str) -> None:
    check_carried([PLAIN, PLAIN], ALL_FIELDS - {missing}, "fake")
    check_carried([PLAIN, FULL], ALL_FIELDS, "fake")
    with pytest.raises(Refusal, match=f"the broker fake cannot transmit {missing}:") as refusal:
        check_carried([PLAIN, FULL], ALL_FIELDS - {missing}, "fake")
    assert refusal.value.status == 400


def test_a_field_counts_also_where_its_value_is_nought() -> None:
    assert fields_in(publication("a", "x", retry=0, ttl=0.0)) == ["retry", "ttl"]
