"""The numbers of clients of all channels, as JSON.

A large table is made in slices and shared for a second: without this, each request would block the server for
the time of a walk over all channels. A small table is made for each request.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterable
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.delivery.channels import Channels
from cyclone_sse.slices import Slices, finish_in_turns, release

ROWS_AT_ONCE = 2000  # written in one slice: about 2 ms
TABLES_AT_ONCE = 20  # clients that are sent a large table in one turn
TABLE_BYTES_AT_ONCE = 4 * 2**20  # of tables that are sent in one turn: some milliseconds with TLS
MAX_AGE = 1.0  # seconds for which a large table is shared

Rows = Iterable[tuple[str, int]]


class StatsTable:
    """The table of one server. channels: the subscribers of each. reactor: clock and turns."""

    def __init__(self, channels: Channels[Any], reactor: IReactorTime) -> None:
        self._channels = channels
        self._reactor = reactor
        self._queue = Slices(reactor)
        self._table = b""
        self._made_at: float | None = None  # None: no table is kept
        self._waiting: list[Deferred[bytes]] | None = None  # for the table that is being made

    def table(self) -> bytes | Deferred[bytes]:
        """All channels that have clients: ``[["news", 3], ..]``."""
        if self._waiting is not None:
            waiter: Deferred[bytes] = Deferred()
            self._waiting.append(waiter)
            return waiter
        if self._made_at is not None and self._reactor.seconds() - self._made_at < MAX_AGE:
            return self._table
        made = finish_in_turns(_in_json(self._channels.stats_of()), self._queue)
        if isinstance(made, bytes):
            self._table, self._made_at = b"", None
            return made
        self._waiting = []
        return made.addCallback(self._share)

    def selection(self, names: Collection[str], prefixes: tuple[str, ...]) -> bytes | Deferred[bytes]:
        """The channels with these names, and those that begin with one of the prefixes."""
        if prefixes:
            rows = self._channels.stats_of()
            work = _in_json(rows, frozenset(names), prefixes)
        else:
            work = _in_json(self._channels.stats_of(dict.fromkeys(names)))
        return finish_in_turns(work, self._queue)

    def _share(self, table: bytes) -> bytes:
        self._table, self._made_at = table, self._reactor.seconds()
        waiting, self._waiting = self._waiting or [], None
        self._queue.put(
            release(waiting, table, max(1, min(TABLES_AT_ONCE, TABLE_BYTES_AT_ONCE // len(table))))
        )
        return table


def _in_json(
    rows: Rows, names: Collection[str] = (), prefixes: tuple[str, ...] = ()
) -> Generator[None, None, bytes]:
    """The rows as JSON; where there are prefixes, those that begin with one or have one of the names."""
    parts: list[str] = []
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS_AT_ONCE)):
        full = len(chunk) == ROWS_AT_ONCE
        if prefixes:
            chunk = [row for row in chunk if row[0].startswith(prefixes) or row[0] in names]
        if chunk:
            parts.append(json.dumps(chunk)[1:-1])
        if full:
            yield
    return f"[{', '.join(parts)}]".encode()
