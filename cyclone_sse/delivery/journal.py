"""The journal reads the history file into memory at the start, and writes events to the file from then on.

The reactor never waits for the disk. The events of one turn, or those published while the previous
transaction is written, make up the next transaction, which a thread of its own writes. Subscribers do not
wait for the disk. Publishers do, and their answer says whether the event is on the disk.

When the file cannot be written, the publishers of that transaction receive Unavailable, and no event is
accepted until the same transaction has been written: without this, events could be promised and then lost.
The events of that transaction have been delivered to subscribers, and are still in memory. So a refused event
may have been delivered, and is delivered twice if the publisher repeats it; an accepted event is never
missing. The same holds for a disk that hangs, after WRITE_TIMEOUT. If the file was removed or replaced, no
event is accepted either, since it would be lost at the next start.

Ids continue to grow after a restart even if the clock was set back: the file has a position, always a little
ahead, up to which ids may have been assigned. If the clock is set while the server runs, the times in the
file are corrected as much: without this, all events and keys could look too old at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyclone_sse import slices
from cyclone_sse.delivery.events import Event, EventIds, seq_at
from cyclone_sse.delivery.history import History
from cyclone_sse.delivery.idempotency import MAX_IDEMPOTENCY_KEYS, IdempotencyKeys
from cyclone_sse.delivery.journal_file import JournalError, JournalFile, Transaction
from cyclone_sse.delivery.states import States
from cyclone_sse.delivery.writer_thread import Writer
from cyclone_sse.errors import Unavailable

RETRY = 1.0  # seconds between two attempts to write
WRITE_TIMEOUT = 5.0  # seconds after which publishers no longer wait for the disk
CANNOT_BE_WRITTEN = "the history file cannot be written"
ANSWERED_AT_ONCE = 200  # publishers in one turn: about 5 ms
FORGET_AT = 500  # dropped events and keys that are deleted together with a write
FORGET_AFTER = 10.0  # seconds after which they are deleted in any case
MAX_WAITING_BYTES = 64 * 1024 * 1024  # bytes that may wait for a disk that is too slow
# Milliseconds that ids are reserved ahead of the clock; renewed when half of them is left. After a crash ids
# begin that far in the future at the most: less than the 5 s by which two servers' clocks may differ.
RESERVE = 4000
RESERVE_STEP = 2**32  # ids reserved instead for as long as the clock is behind them
CLOCK_SET = 2.0  # seconds by which the clock must have been set before the times in the file are corrected

_Waiting = tuple[Deferred[Sequence[str]], Sequence[str]]  # a publisher, and the ids of its events


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """waiting_bytes: of events that are not yet on the disk. trouble: why no event is accepted, or None."""

    waiting_bytes: int
    trouble: str | None


class Journal:
    """The history file of this process.

    clock: seconds since the epoch, for the ages of events. writer: calls the writing functions. Raises
    JournalError if the file cannot be read and written.
    """

    log = Logger()

    # At first nothing is being written.
    _writing = False  # now, or at the end of this turn
    _unwritten: Transaction | None = None  # the transaction that failed
    _retry: IDelayedCall | None = None  # the call that tries it again
    _late: IDelayedCall | None = None  # the call that ends the wait for a disk that hangs
    _trouble: str | None = None  # why no event is accepted
    _misplaced: str | None = None  # likewise, if the file is not where it was
    _looking = False  # the thread looks whether it is there
    _closing = False
    _idle: Deferred[None] | None = None  # fires when nothing is being written

    def __init__(
        self,
        path: str,
        history: History,
        states: States,
        ids: EventIds,
        reactor: IReactorTime,
        *,
        idempotency: IdempotencyKeys,
        clock: Callable[[], float],
        writer: Writer,
    ) -> None:
        self._history = history
        self._known_states = states
        self._idempotency = idempotency
        self._ids = ids
        self._reactor = reactor
        self._clock = clock
        self._clock_ahead = clock() - reactor.seconds()  # of the reactor's, as the times in the file are
        self._writer = writer
        self._unwritten_events: list[Event] = []
        self._states: dict[str, Event | None] = {}  # new ones; None: cleared
        self._cleared: dict[str, int] = {}  # channels, and the positions up to which
        self._waiting: list[_Waiting] = []  # for these events to be written
        self._answers = slices.Slices(reactor)  # to publishers, where there are many
        self._waiting_bytes = 0  # of events that are not yet on the disk
        self._forgotten: dict[int, tuple[int, Sequence[str]]] = {}  # row: position and channels
        self._forgotten_keys: dict[str, None] = {}
        self._forgot_at: float = reactor.seconds()  # when rows were last deleted
        self._file = JournalFile(path, ids.now())
        try:
            self._fill()
            self._file.write(Transaction(reserved=self._reservation()))  # shows whether it can be written
        except BaseException:
            self._file.close()
            raise

    def figures(self) -> JournalFigures:
        """The figures of this moment."""
        return JournalFigures(self._waiting_bytes, self._trouble or self._misplaced)

    def check(self) -> None:
        """Raise Unavailable if no event can be accepted at present."""
        if self._closing:
            raise Unavailable("the server stops", False)
        if trouble := self._trouble or self._misplaced:
            raise Unavailable(trouble, False)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise Unavailable("the disk of the history file is too slow", False)

    def append(self, event: Event) -> None:
        """Write this event, which is already in the history, with the next transaction."""
        self._row += 1
        event.row = self._row
        self.append_key(event)

    def append_key(self, event: Event) -> None:
        """Write of this event only its idempotency key, if it has one, with the next transaction."""
        if event.key:
            self._forgotten_keys.pop(event.key, None)  # without this, the new row would be deleted
        self._unwritten_events.append(event)
        self._waiting_bytes += len(event.frame)
        self._write_soon()

    def set_state(self, event: Event) -> None:
        """Write the event as the state of its channels with the next transaction."""
        for channel in event.channels:
            self._states[channel] = event
        self._write_soon()

    def clear(self, channels: Sequence[str], seq: int) -> None:
        """Delete the states of these channels, and their events up to a position."""
        for channel in channels:
            self._states[channel] = None
            self._cleared[channel] = seq
        self._write_soon()

    def when_written(self, ids: Sequence[str]) -> Deferred[Sequence[str]]:
        """A Deferred of these ids, when every event so far is in the file; or it fails with Unavailable."""
        if self._trouble is not None:
            return fail(Unavailable(self._trouble, ids=ids))
        written: Deferred[Sequence[str]] = Deferred()
        self._waiting.append((written, ids))
        self._write_soon()
        return written

    def tidy(self) -> None:
        """Reserve ids, delete dropped events and keys, and look for the file; called once a second."""
        if not self._looking and not self._closing:
            self._looking = True
            # In the thread: without this a disk that hangs would stop the server.
            self._writer.call(self._file.ensure_in_place).addBoth(self._note_place)
        forgotten = self._forgotten or self._forgotten_keys
        overdue = forgotten and self._reactor.seconds() - self._forgot_at >= FORGET_AFTER
        if overdue or self._reservation() is not None or self._clock_shift():
            self._write_soon()

    async def close(self) -> None:
        """Write the waiting events, accept no more, and close the file."""
        self._closing = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        elif self._writing:
            self._idle = Deferred()
            await self._idle
        last = Transaction(reserved=self._ids.last)  # no id is given out after this
        try:
            for transaction in filter(None, (self._unwritten, self._next_transaction(), last)):
                await self._writer.call(self._file.write, transaction)
        except JournalError as error:
            self.log.error("the last events may be missing in the history file: {reason}", reason=error)
        finally:
            await self._writer.call(self._file.close)
        await self._answers.idle()
        self._history.on_forgotten = self._idempotency.on_forgotten = None
        self._writer.stop()

    def _fill(self) -> None:
        journal, history = self._file, self._history
        history.on_forgotten = self._forget
        history.clear(journal.begin)
        for channel, seq in journal.floors():
            history.raise_floor(channel, seq)
        now, wall, time_taken, last = self._reactor.seconds(), self._clock(), float("-inf"), journal.begin
        for event, taken in journal.events():
            # The clock may have been set: no event is from the future, nor older than the one before it.
            time_taken = max(time_taken, now - max(0.0, wall - taken / 1000))
            history.append(event, time_taken)
            last = event.seq
        for channel, event in journal.states():
            self._known_states.restore(channel, event)
        self._idempotency.on_forgotten = self._forget_key
        journal.keep_newest_keys(MAX_IDEMPOTENCY_KEYS)
        time_taken = float("-inf")
        for key, id, taken in journal.used_keys():
            time_taken = max(time_taken, now - max(0.0, wall - taken / 1000))  # as of events
            self._idempotency.remember(key, id, now - time_taken)
        self._row = journal.row
        self._ids.reset(journal.node, max(last, journal.reserved))
        self._ids.now()  # the present, from which ids are reserved

    def _reservation(self) -> int | None:
        """The position up to which to reserve ids; None if enough are reserved."""
        given, reserved = self._ids.last, self._file.reserved
        wanted = max(seq_at(int(self._clock() * 1000) + RESERVE), given + RESERVE_STEP)
        used = given > reserved - seq_at(RESERVE // 2) and wanted > reserved + seq_at(RESERVE // 4)
        return wanted if used or given > reserved - RESERVE_STEP // 2 else None

    def _clock_shift(self) -> float:
        """The seconds by which the clock was set since the times in the file were corrected; 0.0 for none."""
        seconds = self._clock() - self._reactor.seconds() - self._clock_ahead
        return seconds if abs(seconds) >= CLOCK_SET else 0.0

    def _forget(self, event: Event) -> None:
        if event.row:
            # An event that ends with its ttl leaves no gap.
            self._forgotten[event.row] = event.seq, event.channels if event.ttl is None else ()

    def _forget_key(self, key: str) -> None:
        self._forgotten_keys[key] = None

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._reactor.callLater(0, self._write)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        transaction = self._unwritten or self._next_transaction()
        self._late = self._reactor.callLater(WRITE_TIMEOUT, self._refuse_late, waiting)
        written = self._writer.call(self._file.write, transaction)
        written.addCallbacks(
            self._written,
            self._not_written,
            callbackArgs=(transaction, waiting),
            errbackArgs=(transaction, waiting),
        )

    def _written(self, _: object, transaction: Transaction, waiting: list[_Waiting]) -> None:
        self._clear_late()
        self._unwritten = self._retry = None
        self._waiting_bytes -= sum(len(event.frame) for event in transaction.events)
        if self._trouble is not None:
            self._trouble = None
            self.log.info("the history file can be written again; events are accepted")
        # Before the next transaction, which then has what these publishers send next, too.
        self._end_wait(waiting)
        self._writing = False
        if self._unwritten_events or self._waiting or self._states:
            self._write_soon()
        else:
            self._fire_idle()

    def _not_written(self, failure: Failure, transaction: Transaction, waiting: list[_Waiting]) -> None:
        self._clear_late()
        self._unwritten = transaction
        if self._trouble != CANNOT_BE_WRITTEN:
            self._trouble = CANNOT_BE_WRITTEN
            if failure.check(JournalError):
                self.log.error("{reason}; no event is accepted until it can be written", reason=failure.value)
            else:
                self.log.failure("writing the history file failed", failure)
        refused, self._waiting = [*waiting, *self._waiting], []
        if self._closing:
            self._fire_idle()
        else:
            self._retry = self._reactor.callLater(RETRY, self._write)
        self._end_wait(refused, self._trouble)

    def _refuse_late(self, waiting: list[_Waiting]) -> None:
        """Answer the publishers that wait for a disk that hangs, and accept no events until the write has
        ended.
        """
        self._trouble = "the disk of the history file does not answer"
        self.log.error("{reason}: no event is accepted until it does", reason=self._trouble)
        refused = [*waiting, *self._waiting]
        waiting.clear()
        self._waiting = []
        self._end_wait(refused, self._trouble)

    def _end_wait(self, waiting: Sequence[_Waiting], trouble: str | None = None) -> None:
        """Answer these publishers. trouble: why their events may not be on the disk."""

        def answer(one: _Waiting) -> None:
            written, ids = one
            if trouble is None:
                written.callback(ids)
            else:
                written.errback(Unavailable(trouble, ids=ids))

        work = slices.each(waiting, answer, ANSWERED_AT_ONCE)
        if next(work, True) is None:
            self._answers.put(work)

    def _clear_late(self) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()

    def _note_place(self, trouble: str | Failure | None) -> None:
        self._looking = False
        before = self._misplaced
        # A look that fails changes nothing: writing will fail, too.
        self._misplaced = None if isinstance(trouble, Failure) else trouble
        if self._misplaced != before and not self._closing:
            if self._misplaced:
                self.log.error("{reason}: no event is accepted", reason=self._misplaced)
            else:
                self.log.info("the history file is in its place again; events are accepted")

    def _fire_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _next_transaction(self) -> Transaction:
        events, self._unwritten_events = self._unwritten_events, []
        transaction = Transaction(events, int(self._clock() * 1000), reserved=self._reservation())
        if seconds := self._clock_shift():
            transaction.clock_set = int(seconds * 1000)
            self._clock_ahead += seconds
        transaction.states, self._states = self._states, {}
        transaction.floors, self._cleared = self._cleared, {}
        now = self._reactor.seconds()
        many = len(self._forgotten) + len(self._forgotten_keys)
        if many >= FORGET_AT or now - self._forgot_at >= FORGET_AFTER:
            self._forgot_at = now
            transaction.forgotten = list(self._forgotten)
            transaction.floors = self._floors(transaction.floors)
            self._forgotten = {}
            transaction.forgotten_keys, self._forgotten_keys = list(self._forgotten_keys), {}
        return transaction

    def _floors(self, cleared: Mapping[str, int]) -> dict[str, int]:
        """The positions from which the channels of the forgotten events are complete."""
        floors = dict(cleared)
        for seq, channels in self._forgotten.values():
            for channel in channels:
                floors[channel] = max(seq, floors.get(channel, seq))
        return floors
