"""The idempotency keys of the last minutes, with the ids of their events.

A second attempt with the same key publishes nothing and receives the first answer, even while the first
attempt is under way. A failed attempt is forgotten, and the next one publishes. But if the events of the
failed one are still to be written, the next one waits for that. Costs a look-up for each key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Unavailable

MAX_PUBLISHED = 100_000  # about 30 MB
_EXPIRED_AT_ONCE = 1000  # keys that are forgotten with one request: a millisecond


class _Entry:
    """One event that was published with a key, or is about to be. waiting: other attempts with the key.

    is_unwritten: whether it was published, but was not yet on the disk when the attempt failed.
    """

    __slots__ = ("done", "expires", "id", "is_unwritten", "waiting")

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.done = False
        self.is_unwritten = False
        self.id: str | None = None
        self.waiting: list[Deferred[str | None]] = []

    def set(self, id: str | None) -> None:
        self.done, self.id = True, id
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(id)

    def fail(self, error: BaseException) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.errback(Failure(error))


class Published:
    """The keys of the last minutes. ttl: seconds that a key counts. clock: seconds that only grow."""

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        self.ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, key: str, id: str, age: float = 0.0) -> None:
        """Note that the key was used for this event, so many seconds ago."""
        if age < self.ttl:
            self._entries[key] = _Entry(self._clock() + self.ttl - age)
            self._entries[key].set(id)

    def publish(
        self, publications: Sequence[Publication], publish: Callable[[Sequence[Publication]], Any]
    ) -> Any:
        """Call publish with those of the publications that are new. Returns the ids of all, or a Deferred."""
        for each in publications:
            if each.idempotency_key:
                return Deferred.fromCoroutine(self._publish(publications, publish))
        return publish(publications)

    async def _publish(
        self, publications: Sequence[Publication], publish: Callable[[Sequence[Publication]], Any]
    ) -> list[str | None]:
        self._expire()
        entries = []
        new: list[tuple[Publication, _Entry]] = []
        for each in publications:
            entry = self._find(each.idempotency_key)
            if entry is None:
                entry = _Entry(self._clock() + self.ttl)
                new.append((each, entry))
                if each.idempotency_key:
                    self._entries[each.idempotency_key] = entry
            entries.append(entry)
        try:
            ids: Sequence[str | None] = ()
            if new or any(entry.is_unwritten for entry in entries):
                # With nothing that is new, it only waits until all events so far are written.
                ids = await maybeDeferred(publish, [each for each, _ in new]) or [None] * len(new)
            for (_, entry), id in zip(new, ids, strict=True):
                entry.set(id)
            for entry in entries:
                entry.is_unwritten = False
        except BaseException as error:
            self._forget_failed(new, error)
            raise
        return [await self._id_of(entry) for entry in entries]

    def _find(self, key: str | None) -> _Entry | None:
        """What was published with this key, or is about to be, if the key still counts."""
        if not key:
            return None
        entry = self._entries.get(key)
        if entry is not None and entry.done and entry.expires <= self._clock():
            del self._entries[key]  # `_expire` has not come to it yet; the new one has its place at the end
            return None
        return entry

    def _forget_failed(self, new: Sequence[tuple[Publication, _Entry]], error: BaseException) -> None:
        """Forget an attempt that has failed, but not those of its events that are still to be written."""
        unwritten = error.ids if isinstance(error, Unavailable) else None
        ids: Sequence[str | None] = unwritten or [None] * len(new)
        for (each, entry), id in zip(new, ids, strict=True):
            entry.fail(error)
            if id is not None:
                entry.set(id)
                entry.is_unwritten = True
            elif each.idempotency_key:
                self._entries.pop(each.idempotency_key, None)

    @staticmethod
    async def _id_of(entry: _Entry) -> str | None:
        if entry.done:
            return entry.id
        waiting: Deferred[str | None] = Deferred()
        entry.waiting.append(waiting)
        return await waiting

    def _expire(self) -> None:
        now = self._clock()
        for _ in range(min(len(self._entries), _EXPIRED_AT_ONCE)):
            key, entry = next(iter(self._entries.items()))
            if entry.expires > now and len(self._entries) < MAX_PUBLISHED:
                return
            if entry.done:
                del self._entries[key]
            else:
                # Without this, one attempt that hangs would keep all keys behind it forever.
                entry.expires = now + self.ttl
                self._entries.move_to_end(key)
