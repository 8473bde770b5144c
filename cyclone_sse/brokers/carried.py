"""The fields of a publication that a broker can transmit, by the names that publishers use."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

_ATTRIBUTES = {"event": "type", "retry": "retry", "ttl": "ttl", "except": "excluded", "keep": "keep"}
ALL_FIELDS = frozenset(_ATTRIBUTES)  # other than channels and message


def fields_in(publication: Publication) -> list[str]:
    """The fields other than channels and message that a publication has."""
    values = {name: getattr(publication, own) for name, own in _ATTRIBUTES.items()}
    # By identity: `0 == False`, and without this a ttl or retry of 0 would be dropped in silence.
    return [name for name, value in values.items() if value is not None and value is not False]


def check_carried(publications: Iterable[Publication], carries: Collection[str], broker: str) -> None:
    """Raise Refusal for a field that the broker of this name cannot transmit."""
    carries_all = ALL_FIELDS.issubset(carries)
    for each in () if carries_all else publications:
        for field in sorted(fields_in(each)):
            if field not in carries:
                raise Refusal(400, f"the broker {broker} cannot transmit {field}: leave it out")
