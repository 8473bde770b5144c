"""The file: what is written is read again, and what cannot be used is said in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cyclone_sse.delivery import journal_file as module
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.journal_file import JournalError, JournalFile, Transaction

FIRST = EventId.of(1000, 7, "abc123")


def event(row: int, *channels: str, data: str = "x", type: str | None = None) -> Event:
    eid = EventId.of(2000, row, "abc123")
    made = Event(eid, encode(data, eid, type, 2500), channels or ("a",))
    made.row = row
    return made


@contextmanager
def opened(path: Path) -> Iterator[JournalFile]:
    with closing(JournalFile(str(path), FIRST)) as journal:
        yield journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def reason(path: Path) -> str:
    with pytest.raises(JournalError) as refused, opened(path) as journal:
        list(journal.events())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_written_is_read_again_in_order(path: Path) -> None:
    written = [event(1, "a", "b", data="ü\nx", type="greeting"), event(2, "\0 ;'", "\ud800")]
    with opened(path) as journal:
        assert (journal.node, journal.begin, journal.row) == ("abc123", FIRST.seq, 0)
        journal.write(Transaction(written, taken=1234, reserved=5000))
    with closing(JournalFile(str(path), EventId.of(1, 1, "other"))) as journal:
        assert (journal.node, journal.begin, journal.row, journal.reserved) == ("abc123", FIRST.seq, 2, 5000)
        read = list(journal.events())
        assert [(each.id, each.frame, each.channels, each.row, taken) for each, taken in read] == [
            (each.id, each.frame, each.channels, each.row, 1234) for each in written
        ]


def test_many_rows_are_one_transaction(path: Path) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(row) for row in range(1, 1001)]))
        journal.write(Transaction(forgotten=range(1, 951), floors={f"c{n}": n for n in range(250)}))
        assert [each.row for each, _ in journal.events()] == list(range(951, 1001))
        assert len(list(journal.floors())) == 250


def test_a_transaction_that_fails_leaves_nothing(path: Path) -> None:
    broken = Event(FIRST, None)  # type: ignore[arg-type]
    broken.row = 2
    with opened(path) as journal:
        with pytest.raises(Exception, match="frame"):
            journal.write(Transaction([event(1), broken]))
        journal.write(Transaction([event(1)]))
        assert len(list(journal.events())) == 1


def test_an_event_may_be_written_once_more(path: Path) -> None:
    with opened(path) as journal:
        for _ in range(2):
            journal.write(Transaction([event(1)]))
        assert len(list(journal.events())) == 1


def test_floors_are_only_raised(path: Path) -> None:
    high, low = EventId.of(5, 9, "").seq, EventId.of(5, 8, "").seq
    with opened(path) as journal:
        journal.write(Transaction(floors={"a": high, "b": low}))
        journal.write(Transaction(floors={"a": low, "b": high}))
        assert dict(journal.floors()) == {"a": high, "b": high}


def test_floors_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOORS", 10)
    floors = {f"c{n}": EventId.of(2000, n, "").seq for n in range(40)}
    with opened(path) as journal:
        journal.write(Transaction(floors=floors))
        assert dict(journal.floors()) == dict(list(floors.items())[30:])
    with opened(path) as journal:
        assert journal.begin == floors["c29"], "the newest floor that was forgotten"


def test_deleting_makes_room_for_more(path: Path) -> None:
    with opened(path) as journal:
        for start in range(0, 5000, 100):
            rows = range(start + 1, start + 101)
            journal.write(Transaction([event(row, data="x" * 200) for row in rows]))
            journal.write(Transaction(forgotten=rows))
    assert path.stat().st_size < 5000 * 200 / 5


def test_only_its_owner_may_read_it(path: Path) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_second_server_is_kept_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.01)
    with opened(path) as journal:
        for _ in range(2):
            assert "is in use by another server" in reason(path)
            journal.write(Transaction([event(1)]))


def test_a_log_that_is_removed_is_written_again(path: Path, tmp_path: Path) -> None:
    """`rm *-wal` beside the running server lost all that was accepted, if the process was killed later."""
    log = Path(f"{path}-wal")
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
        log.unlink()
        journal.write(Transaction([event(2)]))
        assert journal.ensure_in_place() is None
        journal.write(Transaction([event(3)]))
        killed = tmp_path / "killed"
        killed.write_bytes(path.read_bytes())
        Path(f"{killed}-wal").write_bytes(log.read_bytes())
        assert "in use" in reason(path)
    with opened(killed) as journal:
        assert [each.row for each, _ in journal.events()] == [1, 2, 3]


def test_the_log_of_a_file_behind_a_symbolic_link_is_not_written_again(path: Path, tmp_path: Path) -> None:
    """Each second all of it was copied into the file, and deleted."""
    target = tmp_path / "elsewhere" / "history"
    target.parent.mkdir()
    path.symlink_to(target)
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
        log = Path(f"{target}-wal")
        before = log.stat()
        assert journal.ensure_in_place() is None
        assert (log.stat().st_ino, log.stat().st_size) == (before.st_ino, before.st_size)
        log.unlink()
        assert journal.ensure_in_place() is None
        assert log.exists()


def test_a_file_is_not_in_place_while_its_removed_log_cannot_be_written(path: Path) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
        Path(f"{path}-wal").unlink()
        journal._db.execute("BEGIN IMMEDIATE")  # as a disk that fails: the log cannot be made again
        assert "(-wal) was removed, and cannot be written again" in str(journal.ensure_in_place())
        journal._db.execute("ROLLBACK")
        assert journal.ensure_in_place() is None


@pytest.mark.parametrize("is_noticed", [False, True])
def test_a_log_that_is_truncated_takes_nothing_else_with_it(path: Path, is_noticed: bool) -> None:
    """`: > *-wal` beside the running server: at the stop, zeros were copied over the whole file."""
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
    with opened(path) as journal:
        journal.write(Transaction([event(2)]))
        assert journal.ensure_in_place() is None
        os.truncate(f"{path}-wal", 0)
        if is_noticed:
            for _ in range(2):
                with pytest.raises(JournalError, match="-wal was truncated by another program"):
                    journal.write(Transaction([event(3)]))
                assert "-wal was truncated by another program" in str(journal.ensure_in_place())
    with opened(path) as journal:
        assert [each.row for each, _ in journal.events()] == [1]
        journal.write(Transaction([event(2)]))


def test_a_file_that_is_truncated_is_noticed(path: Path) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
    with opened(path) as journal:
        assert journal.ensure_in_place() is None
        os.truncate(path, 0)
        with pytest.raises(JournalError, match="sqlite was truncated by another program"):
            journal.write(Transaction([event(2)]))


@pytest.mark.parametrize("is_new", [False, True])
def test_sqlite_itself_truncates_no_file(path: Path, is_new: bool) -> None:
    """By auto_vacuum, such as after an operator has compacted the file, or in a build with that default."""
    if not is_new:
        with opened(path):
            pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = FULL")
        db.execute("VACUUM")
    with opened(path) as journal:
        journal.write(Transaction([event(row, data="x" * 1000) for row in range(1, 4001)]))
        journal.write(Transaction())
        before = path.stat().st_size
        journal.write(Transaction(forgotten=range(1, 4000)))
        for row in range(4001, 6001):
            journal.write(Transaction([event(row)]))
        assert journal.ensure_in_place() is None
        assert path.stat().st_size >= before > 1_000_000


def test_a_damaged_file_is_refused(path: Path) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(row, data="x" * 500) for row in range(1, 500)]))
    whole = path.read_bytes()
    for damage in (slice(0, 100), slice(4096, 8192), slice(len(whole) // 2, None)):
        broken = bytearray(whole)
        broken[damage] = b"\xa5" * len(broken[damage])
        path.write_bytes(broken)
        assert "damaged" in reason(path)
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in reason(path)


def test_what_is_no_history_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("Dear diary, " * 100)
    assert "damaged, or not a history file" in reason(path)
    assert path.read_text() == "Dear diary, " * 100
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    assert "is not a history file" in reason(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA user_version = 3", "of version 3, not 2"),
        ("UPDATE event SET frame = x'68'", "event 1 is not whole"),
        ("UPDATE event SET channels = '['", "damaged"),
        ("DELETE FROM journal", "damaged"),
        ("DROP TABLE floor", "cannot be used"),
    ],
)
def test_what_was_changed_by_others_is_refused(path: Path, statement: str, said: str) -> None:
    with opened(path) as journal:
        journal.write(Transaction([event(1)]))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(statement)
    assert said in reason(path)


def test_a_place_where_nothing_can_be_written_is_refused(path: Path, tmp_path: Path) -> None:
    assert "cannot be opened: No such file" in reason(tmp_path / "missing" / "file")
    assert "cannot be opened: Is a directory" in reason(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without write access")
def test_a_folder_that_is_read_only_is_refused(path: Path, tmp_path: Path) -> None:
    with opened(path):
        pass
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path.chmod(0o666)
    os.seteuid(65534)
    try:
        assert "cannot be opened" in reason(path) or "read-only" in reason(path)
    finally:
        os.seteuid(0)
