"""The idempotency keys of the last minutes, with the ids of their events.

A second attempt with the same key publishes nothing and receives the first answer, even while the first
attempt is under way. A failed attempt is forgotten, and the next one publishes. But if the events of the
failed one are still to be written, the next one waits for that. Costs a look-up for each key; the keys of
large batches are looked up in slices.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal, Unavailable
from cyclone_sse.slices import Slices, finish_in_turns

MAX_IDEMPOTENCY_KEYS = 100_000  # about 30 MB
KEYS_PER_TURN = 500  # about a millisecond, together with the keys that are forgotten for them


class _Entry:
    """One event that was published with a key, or is about to be. waiting: other attempts with the key.

    expires: when the key no longer counts, once it is done. error: why the attempt failed. is_unwritten:
    whether the event was published, but was not yet on the disk when the attempt failed.
    """

    __slots__ = ("done", "error", "expires", "id", "is_unwritten", "waiting")

    def __init__(self) -> None:
        self.expires = 0.0
        self.done = False
        self.error: BaseException | None = None
        self.is_unwritten = False
        self.id: str | None = None
        self.waiting: list[Deferred[str | None]] = []

    def set(self, id: str | None) -> None:
        self.done, self.id, self.error = True, id, None
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(id)

    def fail(self, error: BaseException) -> None:
        self.error = error
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.errback(Failure(error))


_New = Sequence[tuple[Publication, _Entry]]


class IdempotencyKeys:
    """The keys of the last minutes. ttl: seconds that a key counts. reactor: runs the slices, and has the
    time, in seconds that only grow.

    on_forgotten: called with each key that is forgotten because it is too old, or one of too many.
    """

    def __init__(self, ttl: float, reactor: IReactorTime) -> None:
        self.ttl = ttl
        self.on_forgotten: Callable[[str], object] | None = None
        self._clock = reactor.seconds
        self._slices = Slices(reactor)
        self._known: OrderedDict[str, _Entry] = OrderedDict()  # keys of finished attempts, the oldest first
        # Apart from the others: without this, an attempt that hangs would keep all keys behind it forever.
        self._under_way: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._under_way)

    def remember(self, key: str, id: str, age: float = 0.0) -> None:
        """Note that the key was used for this event, ``age`` seconds ago. Call this in the order of use."""
        entry = _Entry()
        entry.set(id)
        self._add(key, entry, self._clock() + self.ttl - age)
        if len(self) > MAX_IDEMPOTENCY_KEYS:
            self._forget(next(iter(self._known)))

    def note(self, publications: Sequence[Publication], ids: Sequence[str]) -> None:
        """Note the keys of publications that were published elsewhere, which decides whether they are new."""
        finish_in_turns(self._note(publications, ids), self._slices)

    def knows(self, key: str | None) -> bool:
        """Whether a publication with this key would publish nothing now."""
        entry = self._known.get(key) if key else None
        return key in self._under_way or (entry is not None and entry.expires > self._clock())

    def publish_new(
        self, publications: Sequence[Publication], publish: Callable[[Sequence[Publication]], Any]
    ) -> Any:
        """Call publish with those of the publications that are new. Returns the ids of all, or a Deferred."""
        for each in publications:
            if each.idempotency_key:
                return Deferred.fromCoroutine(self._publish(publications, publish))
        return publish(publications)

    def forget_old(self) -> None:
        """Forget keys that are too old, or too many: a limited number in one call."""
        now = self._clock()
        for _ in range(min(len(self._known), 2 * KEYS_PER_TURN)):  # twice as many as are added meanwhile
            key, entry = next(iter(self._known.items()))
            if entry.expires > now and len(self) <= MAX_IDEMPOTENCY_KEYS:
                return
            self._forget(key)

    async def _publish(
        self, publications: Sequence[Publication], publish: Callable[[Sequence[Publication]], Any]
    ) -> list[str | None]:
        entries, new = await self._in_turns(self._look_up(publications))
        try:
            ids: Sequence[str | None] = ()
            if new or any(entry.is_unwritten for entry in entries):
                # With nothing that is new, it only waits until all events so far are written.
                ids = await maybeDeferred(publish, [each for each, _ in new]) or [None] * len(new)
            if len(ids) != len(new):
                raise ValueError(f"{len(ids)} ids for {len(new)} events")
        except BaseException as error:
            finish_in_turns(self._forget_failed(new, error), self._slices)
            raise
        for entry in entries:
            entry.is_unwritten = False
        await self._in_turns(self._set_ids(new, ids))
        try:
            return [entry.id if entry.done else await self._id_of(entry) for entry in entries]
        except (Unavailable, Refusal) as error:
            if not new:
                raise
            # The error is that of another request. Without this, the publisher could be told that nothing
            # was published, and would publish its events without a key twice.
            raise Unavailable(f"a part is published: {error}", "unknown") from None

    async def _in_turns(self, task: Generator[None, None, Any]) -> Any:
        """The result of the task: at once, if it is short."""
        result = finish_in_turns(task, self._slices)
        return await result if isinstance(result, Deferred) else result

    def _look_up(
        self, publications: Sequence[Publication]
    ) -> Generator[None, None, tuple[list[_Entry], list[tuple[Publication, _Entry]]]]:
        """The entries of the publications, and those of them that are new."""
        entries: list[_Entry] = []
        new: list[tuple[Publication, _Entry]] = []
        for number, each in enumerate(publications, 1):
            key = each.idempotency_key
            entry = self._find(key) if key else None
            if entry is None:
                entry = _Entry()
                new.append((each, entry))
                if key:
                    self._under_way[key] = entry
            entries.append(entry)
            if not number % KEYS_PER_TURN:
                self.forget_old()
                yield
        self.forget_old()
        return entries, new

    def _note(self, publications: Sequence[Publication], ids: Sequence[str]) -> Generator[None, None, None]:
        for number, (each, id) in enumerate(zip(publications, ids, strict=True), 1):
            key = each.idempotency_key
            if key and self._find(key) is None:  # another use does not prolong it
                self.remember(key, id)
            if not number % KEYS_PER_TURN:
                yield

    def _find(self, key: str) -> _Entry | None:
        entry = self._known.get(key)
        if entry is None:
            return self._under_way.get(key)
        if entry.expires <= self._clock():
            self._forget(key)
            return None
        return entry

    def _set_ids(self, new: _New, ids: Sequence[str | None]) -> Generator[None, None, None]:
        """Note that the new events were published, and answer the attempts that wait for their ids."""
        expires = self._clock() + self.ttl
        for number, ((each, entry), id) in enumerate(zip(new, ids, strict=True), 1):
            if each.idempotency_key:
                self._add(each.idempotency_key, entry, expires)
            entry.set(id)
            if not number % KEYS_PER_TURN:
                yield
                expires = self._clock() + self.ttl

    def _forget_failed(self, new: _New, error: BaseException) -> Generator[None, None, None]:
        """Forget an attempt that has failed, except events that are still to be written."""
        unwritten = error.ids if isinstance(error, Unavailable) else None
        ids: Sequence[str | None] = unwritten or [None] * len(new)
        for number, ((each, entry), id) in enumerate(zip(new, ids, strict=True), 1):
            entry.fail(error)
            if each.idempotency_key and id is None:
                del self._under_way[each.idempotency_key]
            elif id is not None:
                if each.idempotency_key:
                    self._add(each.idempotency_key, entry, self._clock() + self.ttl)
                entry.is_unwritten = True
                entry.set(id)
            if not number % KEYS_PER_TURN:
                yield

    @staticmethod
    async def _id_of(entry: _Entry) -> str | None:
        if entry.error is not None:
            raise entry.error  # without this, the attempt would wait forever for one that has failed
        waiting: Deferred[str | None] = Deferred()
        entry.waiting.append(waiting)
        return await waiting

    def _add(self, key: str, entry: _Entry, expires: float) -> None:
        self._under_way.pop(key, None)
        entry.expires = expires
        self._known[key] = entry

    def _forget(self, key: str) -> None:
        del self._known[key]
        if self.on_forgotten is not None:
            self.on_forgotten(key)
