"""Kinds of channel, from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclone_sse.delivery.kinds import Kind, Kinds, read_kinds
from cyclone_sse.delivery.rates import Rates

FILE = """\
["user-*"]
history_size = 20
history_ttl = 86400

["room-*"]
presence = true
max_message = 4096
publish_rate = 5

["*"]
history_size = 0
"""


def test_the_first_table_that_matches_holds(tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text(FILE)
    kinds = read_kinds(str(path))
    assert kinds.of("user-42") == Kind("user-*", history_size=20, history_ttl=86400)
    assert kinds.of("room-1") == Kind("room-*", presence=True, max_message=4096, publish_rate=5)
    assert kinds.of("else") == Kind("*", history_size=0)
    assert (kinds.longest_ttl, kinds.have_presence) == (86400, True)


def test_the_events_of_two_tables_with_the_same_rules_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('["a-*"]\npublish_rate = 1\n["b-*"]\npublish_rate = 1\n')
    kinds, rates = read_kinds(str(path)), Rates()
    assert rates.spend("42", {kinds.of("a-1"): 2}, 0.0) == 0
    assert rates.spend("42", {kinds.of("b-1"): 2}, 0.0) == 0
    assert rates.spend("42", {read_kinds(str(path)).of("a-2"): 1}, 0.0) > 0, "also when it is read again"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "channels.toml"
    file.write_bytes('\ufeff["a-*"]\r\npresence = true\r\n'.encode())
    assert read_kinds(str(file)).have_presence


def test_without_a_file_the_options_hold() -> None:
    kinds = read_kinds(None)
    assert kinds.of("anything") == Kind()
    assert (kinds.longest_ttl, kinds.have_presence) == (0, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "outside of any table"),
        ('["a"]\nhistory = 1', "unknown key history"),
        ('["a"]\nhistory_size = "1"', "a whole number"),
        ('["a"]\nhistory_size = 1.5', "a whole number"),
        ('["a"]\nhistory_size = true', "a whole number"),
        ('["a"]\nhistory_size = -1', "from 0"),
        ('["a"]\nhistory_ttl = 1e10', "a number from 0 to 1000000000"),
        pytest.param('["a"]\nhistory_ttl = 1' + "0" * 400, "from 0 to 1000000000", id="no float"),
        ('["a"]\nmax_message = 0', "a whole number from 1 to 1000000000"),
        ('["a"]\npublish_rate = 0', "a number from 1e-06 to 1000000000"),
        ('["a"]\npublish_rate = 1e-300', "from 1e-06"),
        ('["a"]\npublish_rate = inf', "from 1e-06"),
        ('["a"]\npublish_rate = nan', "from 1e-06"),
        ('["a"]\npresence = 1', "true or false"),
        ('["a"', "channels.toml"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "channels.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^--channels=.*channels\.toml: ") as caught:
        read_kinds(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_kinds(str(tmp_path / "none"))


def test_strangers_cannot_make_it_remember_names_without_end() -> None:
    kinds = Kinds([Kind("a*", presence=True)])
    for number in range(25_000):
        kinds.of(f"a{number}")
    assert len(kinds._found) <= 10_000
