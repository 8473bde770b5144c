"""The fields of a publication that a broker can transmit, by the names that publishers use."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal

_ATTRIBUTES = {"event": "type", "retry": "retry", "ttl": "ttl", "except": "excluded", "keep": "keep"}
ALL_FIELDS = frozenset(_ATTRIBUTES)  # other than channels and message


def check_carried(publications: Iterable[Publication], carries: Collection[str], broker: str) -> None:
    """Raise Refusal for a field that the broker of this name cannot transmit."""
    missing = [(field, _ATTRIBUTES[field]) for field in sorted(ALL_FIELDS.difference(carries))]
    for each in publications if missing else ():
        for field, attribute in missing:
            value = getattr(each, attribute)
            # By identity: `0 == False`, and without this a ttl or retry of 0 would be dropped in silence.
            if value is not None and value is not False:
                raise Refusal(400, f"the broker {broker} cannot transmit {field}: leave it out")
