"""Makes the history outlive the process: fills it from the journal, and keeps there what is published.

The reactor never waits for the disk. What is published in one turn, or while the former transaction is
being written, is the next transaction; a thread of its own writes it. Subscribers do not wait for that;
whoever published does, and is told that the event is kept, or that it is not.

When the file cannot be written, everybody whose event was to be in that transaction is told so
(Unavailable), and from then on nothing is accepted, so that no event is promised that would be lost. What
could not be written has been seen by subscribers and is still in memory; the same transaction is tried
again until it succeeds, and then events are accepted again. So a refused event may have been delivered,
and a publisher that repeats it sends it twice; an accepted one is never missing.

Ids go on growing after a restart even if the clock was set back: the file says up to where they may have
been given out, always a little ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse.delivery.events import Event, EventIds, seq_at
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.journal_file import JournalError, JournalFile, Transaction
from cyclone_sse.delivery.writer import Writer
from cyclone_sse.errors import Unavailable

RETRY = 1.0  # seconds between two attempts to write
FORGET_AT = 500  # forgotten events that are deleted along with what is published
FORGET_AFTER = 10.0  # seconds after which they are deleted anyhow
MAX_WAITING = 64 * 1024 * 1024  # bytes that may wait for a disk that is too slow
# Milliseconds that ids are reserved ahead of the clock; renewed when half of them is left. After a crash ids
# begin that far in the future at the most: less than the 5 s by which two servers' clocks may differ.
RESERVE = 4000
RESERVE_STEP = 2**32  # ids reserved instead for as long as the clock is behind them


class Journal:
    """Between the memory of this process and its journal.

    clock: seconds since the epoch, for the ages of events. writer: where to write. Raises JournalError where
    the file cannot be read and written.
    """

    log = Logger()

    def __init__(
        self,
        path: str,
        history: History,
        ids: EventIds,
        reactor: Any,
        *,
        clock: Callable[[], float],
        writer: Writer,
    ) -> None:
        self._history = history
        self._ids = ids
        self._reactor = reactor
        self._clock = clock
        self._writer = writer
        self._gathered: list[Event] = []
        self._waiting: list[Deferred[None]] = []  # for the gathered events to be kept
        self._waiting_bytes = 0  # gathered or being written
        self._forgotten: dict[int, tuple[int, Sequence[str]]] = {}  # row: position and channels
        self._forgot_at: float = reactor.seconds()  # last
        self._writing = False  # now, or at the end of this turn
        self._trouble: str | None = None  # why nothing is accepted
        self._unwritten: Transaction | None = None  # the transaction that failed
        self._retry: Any = None  # the call that tries it again
        self._closing = False
        self._idle: Deferred[None] | None = None  # somebody waits until nothing is written
        self._journal = JournalFile(path, ids.mark())
        try:
            self._fill()
            self._journal.write(Transaction(reserved=self._reservation()))  # shows whether it can be written
        except BaseException:
            self._journal.close()
            raise

    def check(self) -> None:
        """Raises Unavailable where nothing can be kept at present."""
        if self._closing:
            raise Unavailable("the server stops")
        if self._trouble is not None:
            raise Unavailable(self._trouble)
        if self._waiting_bytes > MAX_WAITING:
            raise Unavailable("the disk of the history file is too slow")

    def keep(self, event: Event) -> None:
        """Write this event, which the history holds already, with the next transaction."""
        self._row += 1
        event.row = self._row
        self._gathered.append(event)
        self._waiting_bytes += len(event.frame)
        self._write_soon()

    def kept(self) -> Deferred[None]:
        """Fires when all that was given to ``keep`` so far is in the file; fails with Unavailable."""
        kept: Deferred[None] = Deferred()
        self._waiting.append(kept)
        self._write_soon()
        return kept

    def tidy(self) -> None:
        """Reserve ids, and delete what was forgotten; called about once a second."""
        overdue = self._forgotten and self._reactor.seconds() - self._forgot_at >= FORGET_AFTER
        if overdue or self._reservation() is not None:
            self._write_soon()

    async def close(self) -> None:
        """Write what waits, accept nothing more, and let go of the file."""
        self._closing = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        elif self._writing:
            self._idle = Deferred()
            await self._idle
        last = Transaction(reserved=self._ids.last)  # nothing is given out any more
        try:
            for lot in filter(None, (self._unwritten, self._next_lot(), last)):
                await self._writer.call(self._journal.write, lot)
        except JournalError as error:
            self.log.error("what was refused of late may not be kept: {reason}", reason=error)
        finally:
            await self._writer.call(self._journal.close)
        self._history.on_forgotten = None
        self._writer.stop()

    def _fill(self) -> None:
        journal, history = self._journal, self._history
        history.on_forgotten = self._forget
        history.clear(journal.begin)
        for channel, seq in journal.floors():
            history.begin(channel, seq)
        now, wall, time_taken, last = self._reactor.seconds(), self._clock(), float("-inf"), journal.begin
        for event, taken in journal.events():
            # The clock may have been set: nothing is from the future, nor older than what came before it.
            time_taken = max(time_taken, now - max(0.0, wall - taken / 1000))
            for channel in event.channels:
                history.append(channel, event, time_taken)
            last = event.seq
        self._row = journal.row
        self._ids.begin_anew(journal.node, max(last, journal.reserved))
        self._ids.mark()  # the present, from which ids are reserved

    def _reservation(self) -> int | None:
        """The position up to which ids are to be reserved; None where enough of them are."""
        given, reserved = self._ids.last, self._journal.reserved
        wanted = max(seq_at(int(self._clock() * 1000) + RESERVE), given + RESERVE_STEP)
        used = given > reserved - seq_at(RESERVE // 2) and wanted > reserved + seq_at(RESERVE // 4)
        return wanted if used or given > reserved - RESERVE_STEP // 2 else None

    def _forget(self, event: Event) -> None:
        if event.row:
            self._forgotten[event.row] = event.seq, event.channels

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._reactor.callLater(0, self._write)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        lot = self._unwritten or self._next_lot()
        written = self._writer.call(self._journal.write, lot)
        written.addCallbacks(
            self._written, self._not_written, callbackArgs=(lot, waiting), errbackArgs=(lot, waiting)
        )

    def _written(self, _: object, lot: Transaction, waiting: Sequence[Deferred[None]]) -> None:
        self._unwritten = self._retry = None
        self._waiting_bytes -= sum(len(event.frame) for event in lot.events)
        if self._trouble is not None:
            self._trouble = None
            self.log.info("the history file is written again; events are accepted")
        self._writing = False
        if self._gathered or self._waiting:
            self._write_soon()
        else:
            self._rest()
        for each in waiting:
            each.callback(None)

    def _not_written(self, failure: Failure, lot: Transaction, waiting: Sequence[Deferred[None]]) -> None:
        self._unwritten = lot
        if self._trouble is None:
            self._trouble = "the history file cannot be written"
            if failure.check(JournalError):
                self.log.error("{reason}; until it can be, nothing is accepted", reason=failure.value)
            else:
                self.log.failure("writing the history file failed", failure)
        refused, self._waiting = [*waiting, *self._waiting], []
        if self._closing:
            self._rest()
        else:
            self._retry = self._reactor.callLater(RETRY, self._write)
        for each in refused:
            each.errback(Unavailable(self._trouble))

    def _rest(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _next_lot(self) -> Transaction:
        lot = Transaction(self._gathered, int(self._clock() * 1000), reserved=self._reservation())
        self._gathered = []
        now = self._reactor.seconds()
        if len(self._forgotten) >= FORGET_AT or now - self._forgot_at >= FORGET_AFTER:
            self._forgot_at = now
            lot.forgotten = list(self._forgotten)
            lot.floors = self._floors()
            self._forgotten = {}
        return lot

    def _floors(self) -> dict[str, int]:
        """What the channels of the forgotten events are complete from."""
        floors: dict[str, int] = {}
        for seq, channels in self._forgotten.values():
            for channel in channels:
                floors[channel] = max(seq, floors.get(channel, seq))
        return floors
