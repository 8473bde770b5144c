"""The table of prefixes finds what comparing with each prefix would find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.prefix_table import PrefixTable

PREFIXES = st.text("ab", max_size=4).map(str.encode)


@given(st.lists(PREFIXES, max_size=8), st.text("ab", max_size=6).map(str.encode))
def test_it_finds_the_entries_whose_prefix_the_name_begins_with(prefixes: list[bytes], name: bytes) -> None:
    table: PrefixTable[int, bytes] = PrefixTable()
    for number, prefix in enumerate(prefixes):
        table.add(prefix, number, prefix)
    for number in range(0, len(prefixes), 3):
        table.remove(prefixes[number], number)
    expected = {
        number: prefix for number, prefix in enumerate(prefixes) if number % 3 and name.startswith(prefix)
    }
    found = list(table.matching(name))
    assert len(found) == len(expected)
    assert dict(found) == expected


def test_an_entry_that_is_not_there_cannot_be_removed() -> None:
    table: PrefixTable[str, None] = PrefixTable()
    table.add(b"a", "one", None)
    with pytest.raises(KeyError):
        table.remove(b"b", "one")
    with pytest.raises(KeyError):
        table.remove(b"a", "two")
