"""What another program does to the history file and its log is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cyclone_sse.delivery.journal_place import JournalPlace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "history"
    path.write_bytes(b"12345")
    Path(f"{path}-wal").write_bytes(b"123")
    return path


def test_a_file_that_is_moved_or_replaced_is_another(path: Path) -> None:
    place = JournalPlace(str(path))
    assert place.is_same()
    moved = path.rename(path.with_name("moved"))
    assert not place.is_same()
    path.write_bytes(b"12345")
    assert not place.is_same()
    moved.replace(path)
    assert place.is_same()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_is_shorter_than_it_was_is_named_until_it_is_as_long_again(path: Path, suffix: str) -> None:
    place = JournalPlace(str(path))
    assert place.measure() is None
    name = f"{path}{suffix}"
    with Path(name).open("ab") as file:
        file.write(b"45")
    assert place.measure() is None
    os.truncate(name, 2)
    assert [place.measure(), place.measure()] == [name, name]
    os.truncate(name, 100)
    assert place.measure() is None


def test_a_log_that_is_removed_may_begin_with_any_size(path: Path) -> None:
    place = JournalPlace(str(path))
    assert (place.measure(), place.has_log()) == (None, True)
    Path(place.log).unlink()
    assert (place.measure(), place.has_log()) == (None, False)
    place.expect_new_log()
    Path(place.log).write_bytes(b"1")
    assert place.measure() is None
    place.empty_log()
    assert Path(place.log).read_bytes() == b""
