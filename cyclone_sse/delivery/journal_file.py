"""The history file: the events and states of one server in an SQLite file.

``Journal`` writes it in transactions, and reads it once, at the start. The file has the frame of each event,
so that types and retry times need no columns; the states; a floor for each channel with deleted events, so
that after a restart a gap is reported exactly when it would have been without one; and the position up to
which ids were assigned, so that they continue to grow even if the clock was set back.

SQLite: in WAL mode a transaction is one write at the end of a file. The exclusive locking mode excludes every
other process while this one runs, and the kernel releases the lock when the process ends. With
``synchronous=NORMAL`` committed events survive a crash of the process; a power failure may lose the last
moments, but does not damage the file.

Plain Python without threads or time; the only module that knows SQLite. A statement of many rows is one call
that releases Python's lock, so that the reactor continues; one call for each row would acquire and release
the lock each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from cyclone_sse.delivery.events import Event, EventId, ms_and_n, seq_at
from cyclone_sse.delivery.floors import FLOORS
from cyclone_sse.delivery.journal_place import JournalPlace

APPLICATION = 0x63535345  # "cSSE", SQLite's application_id: distinguishes our files from others'
VERSION = 2  # of the tables, SQLite's user_version
LOCK_TIMEOUT = 1.0  # seconds for a predecessor to close the file
_ROWS = 100  # rows in one statement: SQLite before 3.32 takes 999 parameters, a row has 8

_PUBLISHED = """
CREATE TABLE published (key TEXT PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL,
                        taken INTEGER NOT NULL) WITHOUT ROWID;
"""
_TABLES = f"""{_PUBLISHED}
CREATE TABLE journal (node TEXT NOT NULL, begin_ms INTEGER NOT NULL, begin_n INTEGER NOT NULL,
                      reserved_ms INTEGER NOT NULL, reserved_n INTEGER NOT NULL);
CREATE TABLE event (row INTEGER PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL,
                    taken INTEGER NOT NULL, channels TEXT NOT NULL, frame BLOB NOT NULL,
                    ttl REAL, excluded TEXT);
CREATE TABLE floor (channel TEXT PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (channel TEXT PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL, frame BLOB NOT NULL)
                    WITHOUT ROWID;
"""
_FROM_VERSION_1 = f"""{_PUBLISHED}
ALTER TABLE event ADD COLUMN ttl REAL;
ALTER TABLE event ADD COLUMN excluded TEXT;
CREATE TABLE state (channel TEXT PRIMARY KEY, ms INTEGER NOT NULL, n INTEGER NOT NULL, frame BLOB NOT NULL)
                    WITHOUT ROWID;
"""
_RAISE_FLOORS = (
    " ON CONFLICT (channel) DO UPDATE SET ms = excluded.ms, n = excluded.n"
    " WHERE (excluded.ms, excluded.n) > (ms, n)"
)
_REASONS = {
    sqlite3.SQLITE_BUSY: "is in use by another server",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_FULL: "cannot be written, its disk is full",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_NOTADB: "is damaged, or not a history file",
    sqlite3.SQLITE_READONLY: "is read-only",
}
_REMOVED = "the history file was removed or replaced"
_UNLOGGED = "the log of the history file (-wal) was removed, and cannot be written again"
_TRUNCATED = "was truncated by another program; restart the server"


class JournalError(Exception):
    """The file cannot be used; the text has its name and the reason, in one line.

    is_in_use: whether the reason is another process that has it open.
    """

    is_in_use = False


@dataclass(slots=True)
class Transaction:
    """What one transaction writes.

    events: with their rows; of one without a row only the idempotency key is written. taken: when, in
    milliseconds since the epoch. forgotten: rows to delete. floors: the positions up to which something of a
    channel is missing then. reserved: the position up to which ids may be given out; None to leave it.
    states: channels and their new states, None if it was cleared. forgotten_keys: idempotency keys to delete.
    clock_set: milliseconds by which the clock was set; added to the times that are in the file already.
    """

    events: Sequence[Event] = ()
    taken: int = 0
    forgotten: Sequence[int] = ()
    floors: Mapping[str, int] = field(default_factory=dict)
    reserved: int | None = None
    states: Mapping[str, Event | None] = field(default_factory=dict)
    forgotten_keys: Sequence[str] = ()
    clock_set: int = 0


class JournalFile:
    """The file, open.

    path: a missing file is made, for its owner alone to read. first: a new file begins with its tag and
    position. Raises JournalError.

    node: the tag of the ids. begin: the position after which unknown channels are complete.
    reserved: see Transaction. row: the last that is used.
    """

    def __init__(self, path: str, first: EventId) -> None:
        self.path = path
        with self._explained():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(
                path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._place = JournalPlace(path)
        try:
            with self._understood():
                self._open(first)
        except BaseException:
            self._db.close()
            raise

    def floors(self) -> Iterator[tuple[str, int]]:
        """The floor of each channel of which something was deleted."""
        with self._understood():
            for channel, ms, n in self._db.execute("SELECT channel, ms, n FROM floor ORDER BY ms, n"):
                yield json.loads(channel), EventId.of(ms, n, self.node).seq

    def events(self) -> Iterator[tuple[Event, int]]:
        """Each event, oldest first, and the time of its publication, in milliseconds since the epoch."""
        node = self.node
        names: dict[str, tuple[str, ...]] = {}  # the same tuple for all events of the same channels
        with self._understood():
            rows = self._db.execute(
                "SELECT row, ms, n, taken, channels, frame, ttl, excluded FROM event ORDER BY row"
            )
            for row, ms, n, taken, text, frame, ttl, excluded in rows:
                channels = names.get(text)
                if channels is None:
                    channels = names[text] = tuple(json.loads(text))
                if not (frame.startswith(b"id: %d-%d-" % (ms, n)) and frame.endswith(b"\n\n")):
                    raise JournalError(f"{self.path} is damaged: event {row} is not whole")
                event = Event(EventId.of(ms, n, node), frame, channels)
                event.row, event.ttl, event.excluded = row, ttl, excluded
                yield event, taken

    def states(self) -> Iterator[tuple[str, Event]]:
        """The state of each channel that has one: an event without channels."""
        with self._understood():
            for channel, ms, n, frame in self._db.execute("SELECT channel, ms, n, frame FROM state"):
                yield json.loads(channel), Event(EventId.of(ms, n, self.node), frame)

    def used_keys(self) -> Iterator[tuple[str, str, int]]:
        """Each idempotency key, the id of its event, and when it was used, the oldest first."""
        with self._understood():
            for key, ms, n, taken in self._db.execute("SELECT * FROM published ORDER BY ms, n"):
                yield key, str(EventId.of(ms, n, self.node)), taken

    def keep_newest_keys(self, many: int) -> None:
        """Keep this number of idempotency keys, the newest, and delete the others."""
        with self._explained():
            if self._value("SELECT count(*) FROM published") > many:
                # Into a new table: an older version did not limit the keys, and to delete millions one by
                # one would take minutes.
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("ALTER TABLE published RENAME TO old")
                self._db.execute(_PUBLISHED)
                newest = "SELECT * FROM old ORDER BY ms DESC, n DESC LIMIT ?"
                self._db.execute(f"INSERT INTO published {newest}", (many,))
                self._db.execute("DROP TABLE old")
                self._db.execute("COMMIT")

    def write(self, transaction: Transaction) -> None:
        """Write the whole transaction, or nothing. Raises JournalError."""
        with self._explained():
            if truncated := self._truncation():
                raise JournalError(truncated)
            try:
                if (
                    len(transaction.events) > _ROWS
                    or transaction.forgotten
                    or transaction.states
                    or transaction.forgotten_keys
                    or transaction.clock_set
                    or any(event.key for event in transaction.events)
                    or transaction.reserved is not None
                ):
                    self._db.execute("BEGIN IMMEDIATE")  # else it is one statement, a transaction by itself
                if transaction.clock_set:
                    for table in ("event", "published"):
                        self._db.execute(f"UPDATE {table} SET taken = taken + ?", (transaction.clock_set,))
                self._add(transaction.events, transaction.taken)
                self._delete(transaction.forgotten)
                self._raise_floors(transaction.floors)
                self._set_states(transaction.states)
                self._set_keys(transaction)
                if transaction.reserved is not None:
                    end = EventId(transaction.reserved, self.node)
                    self._db.execute("UPDATE journal SET reserved_ms = ?, reserved_n = ?", (end.ms, end.n))
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise
        if transaction.reserved is not None:
            self.reserved = transaction.reserved

    def ensure_in_place(self) -> str | None:
        """Write SQLite's log ("-wal") again if it was removed. Returns why events that are written now would
        be lost: the file is not where it was opened, or something of it is missing. None if they would not.

        Without the log, everything that is not yet in the file itself would be lost with the process.
        """
        if not self._place.is_same():
            return _REMOVED
        if truncated := self._truncation():
            return truncated
        try:
            if not self._place.has_log():
                self._db.execute("PRAGMA journal_mode = DELETE")  # copies the log, still open, into the file
                self._place.expect_new_log()
                self._db.execute("PRAGMA journal_mode = WAL")
                self._value("SELECT count(*) FROM journal")  # makes the new log
        except sqlite3.Error:
            return _UNLOGGED
        return None

    def close(self) -> None:
        """Close the file. Raises JournalError."""
        with self._explained():
            if self._place.measure() == self._place.log:
                # Without this, SQLite would copy what is left of the log, zeros, over the whole file.
                self._place.empty_log()
            self._db.close()

    def _truncation(self) -> str | None:
        name = self._place.measure()
        return f"{name} {_TRUNCATED}" if name else None

    def _open(self, first: EventId) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # before the first look at the file
        application, version = self._value("PRAGMA application_id"), self._value("PRAGMA user_version")
        new = not self._value("SELECT count(*) FROM sqlite_master")
        if not new and application != APPLICATION:
            raise JournalError(f"{self.path} is not a history file")
        if not new and version not in (1, VERSION):
            raise JournalError(
                f"{self.path} is a history file of version {version}, not {VERSION}: move it away"
            )
        if (damage := self._value("PRAGMA quick_check(1)")) != "ok":
            raise JournalError(f"{self.path} is damaged: {' '.join(str(damage).split())}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA journal_size_limit = -1")  # some builds truncate the log
        self._db.execute("PRAGMA synchronous = NORMAL")
        if new:
            self._create(first)
        elif version == 1:
            self._upgrade()
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # not FULL, which truncates the file
        self.node, *ends = self._db.execute("SELECT * FROM journal").fetchone()
        self.begin, self.reserved = seq_at(*ends[:2]), seq_at(*ends[2:])
        self.row: int = self._value("SELECT coalesce(max(row), 0) FROM event")
        self._floors: int = self._value("SELECT count(*) FROM floor")  # never less than there are

    def _create(self, first: EventId) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _TABLES.split(";")):
            self._db.execute(statement)
        self._db.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", (first.node, *[first.ms, first.n] * 2))
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    def _upgrade(self) -> None:
        """Add the tables that files of version 1 do not have."""
        self._db.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _FROM_VERSION_1.split(";")):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    def _set_states(self, states: Mapping[str, Event | None]) -> None:
        cleared = [_name(channel) for channel, event in states.items() if event is None]
        for part in _parts(cleared):
            self._db.execute(f"DELETE FROM state WHERE channel IN ({_marks(len(part))})", part)
        rows = [
            (_name(channel), *ms_and_n(event.seq), event.frame)
            for channel, event in states.items()
            if event is not None
        ]
        self._insert("INSERT OR REPLACE INTO state VALUES ", rows)

    def _set_keys(self, transaction: Transaction) -> None:
        rows = [(e.key, *ms_and_n(e.seq), transaction.taken) for e in transaction.events if e.key]
        self._insert("INSERT OR REPLACE INTO published VALUES ", rows)
        # Last: without this, keys that are forgotten before they are written would stay in the file forever.
        for part in _parts(transaction.forgotten_keys):
            self._db.execute(f"DELETE FROM published WHERE key IN ({_marks(len(part))})", part)

    def _add(self, events: Sequence[Event], taken: int) -> None:
        # "or replace": an event is written again if it is not certain that it was written before
        self._insert(
            "INSERT OR REPLACE INTO event VALUES ",
            [
                (e.row, *ms_and_n(e.seq), taken, _as_json(e.channels), e.frame, e.ttl, e.excluded)
                for e in events
                if e.row
            ],
        )

    def _delete(self, rows: Sequence[int]) -> None:
        for part in _parts(rows):
            self._db.execute(f"DELETE FROM event WHERE row IN ({_marks(len(part))})", part)

    def _raise_floors(self, floors: Mapping[str, int]) -> None:
        if not floors:
            return
        values = [(_name(channel), *ms_and_n(seq)) for channel, seq in floors.items()]
        self._insert("INSERT INTO floor VALUES ", values, _RAISE_FLOORS)
        self._floors += len(values)
        if self._floors > FLOORS + FLOORS // 10:
            self._forget_floors()

    def _forget_floors(self) -> None:
        """Keep the newest floors. Unknown channels are complete from the highest dropped floor on: an
        unnecessary gap is better than a hidden one.
        """
        many = self._value("SELECT count(*) FROM floor") - FLOORS
        if many > 0:
            highest = self._db.execute("SELECT ms, n FROM floor ORDER BY ms, n LIMIT 1 OFFSET ?", (many - 1,))
            ms, n = highest.fetchone()
            self._db.execute("DELETE FROM floor WHERE (ms, n) <= (?, ?)", (ms, n))
            self._db.execute(
                "UPDATE journal SET begin_ms = ?, begin_n = ? WHERE (begin_ms, begin_n) < (?, ?)",
                (ms, n, ms, n),
            )
        self._floors = self._value("SELECT count(*) FROM floor")

    def _insert(self, head: str, rows: Sequence[tuple[Any, ...]], tail: str = "") -> None:
        for part in _parts(rows):
            marks = ", ".join([f"({_marks(len(part[0]))})"] * len(part))
            self._db.execute(head + marks + tail, list(chain.from_iterable(part)))

    def _value(self, query: str) -> Any:
        return self._db.execute(query).fetchone()[0]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Convert the errors of SQLite and of the system into JournalError."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
            explained = JournalError(f"{self.path} {_REASONS.get(code, 'cannot be used')}: {error}")
            explained.is_in_use = code == sqlite3.SQLITE_BUSY
            raise explained from error
        except OSError as error:
            raise JournalError(f"{self.path} cannot be opened: {error.strerror}") from error

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Convert also the errors of reading damaged rows."""
        try:
            with self._explained():
                yield
        except (TypeError, ValueError) as error:
            raise JournalError(f"{self.path} is damaged: {error}") from error


def _as_json(names: Sequence[str]) -> str:
    # The first way takes a quarter of the time: json makes an encoder for each value that is not text.
    return f"[{_name(names[0])}]" if len(names) == 1 else json.dumps(names)


@lru_cache(maxsize=1000)
def _name(channel: str) -> str:
    """The name as JSON: that of a custom application may have half of a surrogate pair."""
    return json.dumps(channel)


def _parts(rows: Sequence[Any]) -> Iterator[list[Any]]:
    each = iter(rows)
    while part := list(islice(each, _ROWS)):
        yield part


def _marks(count: int) -> str:
    return ", ".join("?" * count)
