"""A connection to Redis that reads one stream, or adds to it.

A stream is known by its tag: everybody who reads it must agree on it, it must not outlive the stream, and a
stream that takes its place must have another. So it is kept in the stream itself: as the position of a
consumer group of its own, with which nobody reads. Redis lets only one server make the group, and what
deletes the stream deletes it, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from cyclone_sse.brokers.redis_link import RedisLink, ResponseError
from cyclone_sse.delivery.publication import Publication

GROUP = b"cyclone-sse"
BEGINNING = b"0-0"  # before every entry

Entry = tuple[bytes, list[bytes]]  # its id; fields and values in turn


class Survey(NamedTuple):
    """What Redis says of a stream as a whole.

    first: the id of the oldest entry that it holds. last: the greatest id that it ever had. length: entries
    that it holds. added: how many it ever had; None before Redis 7.0.
    """

    first: bytes | None
    last: bytes
    length: int
    added: int | None


class Lot(NamedTuple):
    """Some entries. tag: of the stream that they are from; None if it has none. length: how many it holds."""

    entries: list[Entry]
    tag: str | None
    length: int


class StreamLink(RedisLink):
    """A connection for one stream.

    stream: its name. size: how many entries it keeps, about.
    """

    def __init__(self, stream: str, size: int, *args: Any) -> None:
        super().__init__(*args)
        self._stream = stream.encode()
        self._size = size

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Any]:
        """Add an entry for each; returns the ids that Redis gives them."""
        ids: list[bytes] = await gatherResults(
            [self._add(_fields_of(each)) for each in publications], consumeErrors=True
        )
        return ids

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """An order to every server that reads the stream is an entry that is no message."""
        return self._add([b"control", order])

    def _add(self, fields: Sequence[bytes]) -> Deferred[Any]:
        return self.command(b"XADD", self._stream, b"MAXLEN", b"~", self._size, b"*", *fields)

    async def claim(self, renew: bool = False) -> str:
        """The tag of the stream, which has one from now on. renew: another one than before."""
        position = f"0-{secrets.randbits(40) or 1}"
        if renew:
            await self.command(b"XGROUP", b"SETID", self._stream, GROUP, position)
        else:
            try:
                await self.command(b"XGROUP", b"CREATE", self._stream, GROUP, position, b"MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        tag = _tag_in(await self.command(b"XINFO", b"GROUPS", self._stream))
        if tag is None:
            raise ResponseError("the stream is gone in this moment")
        return tag

    async def survey(self) -> Survey:
        """Look at the stream as a whole."""
        answer = await self.command(b"XINFO", b"STREAM", self._stream)
        facts = dict(zip(answer[::2], answer[1::2], strict=True))
        first = facts[b"first-entry"]
        return Survey(
            first[0] if first else None,
            facts[b"last-generated-id"],
            facts[b"length"],
            facts.get(b"entries-added"),
        )

    async def read(self, after: bytes, most: int, wait: float = 0) -> Lot:
        """The next entries. after: an id. most: entries at the most. wait: seconds to wait for the first."""
        blocking = (b"BLOCK", int(wait * 1000)) if wait else ()
        # All at once: when entries come, the rest is known without another way there and back.
        read = self.command(b"XREAD", b"COUNT", most, *blocking, b"STREAMS", self._stream, after)
        groups = self.command(b"XINFO", b"GROUPS", self._stream)
        groups.addErrback(_nothing)
        length = self.command(b"XLEN", self._stream)
        try:
            answer, known, held = await gatherResults([read, groups, length], consumeErrors=True)
        except FirstError as error:
            raise _error_in(error) from None
        return Lot(answer[0][1] if answer else [], _tag_in(known), held)

    async def last_before(self, id: bytes) -> bytes | None:
        """The id of the last entry before this id."""
        found = await self.command(b"XREVRANGE", self._stream, b"(" + id, b"-", b"COUNT", 1)
        return found[0][0] if found else None

    async def holds(self, id: bytes) -> bool:
        """Whether the entry with this id is still there."""
        return bool(await self.command(b"XRANGE", self._stream, id, id))

    async def now(self) -> int:
        """The time of Redis in milliseconds, which the ids of entries count."""
        seconds, microseconds = await self.command(b"TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def trim(self, oldest: int) -> None:
        """Drop what is older than this time in milliseconds, and what is too much."""
        await self.command(b"XTRIM", self._stream, b"MINID", oldest)
        await self.command(b"XTRIM", self._stream, b"MAXLEN", b"~", self._size)


def _fields_of(publication: Publication) -> list[bytes]:
    fields = []
    for channel in publication.channels:
        fields += [b"channel", channel.encode()]
    fields += [b"message", publication.data]
    if publication.type is not None:
        fields += [b"event", publication.type.encode()]
    if publication.retry is not None:
        fields += [b"retry", b"%d" % publication.retry]
    if publication.ttl is not None:
        fields += [b"ttl", b"%.6f" % publication.ttl]
    if publication.excluded is not None:
        fields += [b"except", publication.excluded.encode()]
    if publication.keep:
        fields += [b"keep", b"1"]
    return fields


def _nothing(failure: Failure) -> list[Any]:
    """There is no such stream."""
    failure.trap(ResponseError)
    return []


def _error_in(error: FirstError) -> BaseException:
    return error.subFailure.value or error


def _tag_in(groups: Sequence[Any]) -> str | None:
    """The tag that our group holds among these, as XINFO GROUPS lists them."""
    for group in groups:
        facts = dict(zip(group[::2], group[1::2], strict=True))
        if facts[b"name"] == GROUP:
            ms, _, n = facts[b"last-delivered-id"].partition(b"-")
            return f"{int(ms) << 40 ^ int(n):x}"[-16:]
    return None
