"""A connection to Redis that reads one stream, or adds to it.

A stream is known by its tag: all servers that read it must agree on it, it must not outlive the stream, and a
stream that replaces it must have another. So it is kept in the stream itself: as the position of a consumer
group of its own, with which nothing is read. Redis lets only one server make the group, and what deletes the
stream deletes the group, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred

from cyclone_sse.brokers.link import NotAllowed, NotPublished
from cyclone_sse.brokers.redis_link import (
    REFUSED,
    PartlyDone,
    RedisLink,
    ResponseError,
    check_answers,
    not_published,
)
from cyclone_sse.brokers.redis_scripts import (
    ADD,
    CLEAR_STATES,
    FIELDS_IN_SCRIPT,
    PARTLY,
    READ,
    SCRIPT_CHANNELS,
    SCRIPT_ENTRIES,
    SET_STATES,
    adding,
)
from cyclone_sse.brokers.redis_stream_position import Survey
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.errors import Refusal
from cyclone_sse.slices import MANY

GROUP = b"cyclone-sse"
STATES_IN_STEP = 500  # in one step of Redis

# The errors of a Redis that accepts no entry in any stream. Without this, one that refuses only the key of
# ``refusal`` would count as such.
_NO_ENTRIES = ("OOM", "MISCONF", "NOREPLICAS", "NOPERM this user has no permissions to run", "NOPERM User")

StreamEntry: TypeAlias = tuple[bytes, list[bytes]]  # its id; fields and values in turn


class Lot(NamedTuple):
    """Some entries, and a survey of their stream at the same moment.

    tag: of the stream; None if it has none. survey: None if there is no stream. holds: the entry after which
    these come is still there. complete: these are all.
    """

    entries: list[StreamEntry]
    tag: str | None
    survey: Survey | None
    holds: bool
    complete: bool


class StreamLink(RedisLink):
    """A connection for one stream.

    stream: its name. size: how many entries it keeps, about. key_ttl: seconds that an idempotency key counts.
    """

    reply_max = 0  # an entry can be as large as Redis allows; it is dropped when it has been read

    def __init__(self, stream: str, size: int, key_ttl: float, *args: Any) -> None:
        super().__init__(*args)
        self._stream = stream.encode()
        self._states = self._stream + b":state"
        self._size = size
        self._key_ttl = key_ttl

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Any]:
        """Add an entry for each; returns the ids that Redis assigns."""
        try:
            if any(each.idempotency_key or each.keep for each in publications):
                return await self._add_by_script(publications)
            commands = (self._adding(_fields_of(each)) for each in publications)
            if len(publications) > 1 or len(publications[0].channels) > MANY:
                return check_answers(await self.transaction(commands))
            return [await self.command(*next(commands))]
        except PartlyDone:
            raise
        except REFUSED as error:
            raise NotPublished(str(error)) from None

    async def _add_by_script(self, publications: Sequence[Publication]) -> list[bytes]:
        # Before the first part is sent: a 503 would be tried again, and a later part would come too late.
        if any(len(each.channels) > SCRIPT_CHANNELS for each in publications):
            most = f"at most {SCRIPT_CHANNELS} channels"
            raise Refusal(400, f"an event with keep or an idempotency key may have {most} with redis-stream")
        ids: list[bytes] = []
        for part in _parts(publications):
            keys, arguments = adding(part, self._stream, self._states, self._size, self._key_ttl)
            try:
                ids += await self._run_script(ADD, keys, arguments)
            except ResponseError as error:
                if not ids and not str(error).startswith(PARTLY):
                    raise
                # A part of it is out; with its keys the rest can be tried again.
                raise PartlyDone(str(error).removeprefix(PARTLY).lstrip()) from None
        return ids

    def _run_script(
        self, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]
    ) -> Deferred[list[Any]]:
        return self.command(b"EVAL", script, len(keys), *keys, *arguments)

    async def states(self) -> list[tuple[bytes, bytes]]:
        """Each channel that has a state, and its value: see ``redis_scripts``."""
        found: list[tuple[bytes, bytes]] = []
        cursor = b"0"
        while True:
            cursor, row = await self.command(b"HSCAN", self._states, cursor, b"COUNT", STATES_IN_STEP)
            found += zip(row[::2], row[1::2], strict=True)
            if cursor == b"0":
                return found

    async def set_states(self, values: Mapping[bytes, bytes]) -> None:
        """Make these the states of their channels, at most STATES_IN_STEP, unless they have newer ones."""
        channels: dict[bytes, list[bytes]] = {}
        for channel, value in values.items():
            channels.setdefault(value, []).append(channel)
        # Without this, a long message for very many channels would be sent once for each of them.
        arguments = [
            each for value, names in channels.items() for each in (value, b"%d" % len(names), *names)
        ]
        await self._run_script(SET_STATES, [self._states], arguments)

    async def clear_states(self, before: bytes, channels: Sequence[str]) -> None:
        """Delete the states of these channels that are older than the entry of this id."""
        names = [name.encode("utf-8", "surrogatepass") for name in channels]
        for start in range(0, len(names), STATES_IN_STEP):
            part = names[start : start + STATES_IN_STEP]
            await self._run_script(CLEAR_STATES, [self._states], [before, *part])

    async def publish_clear(self, order: bytes, channels: Sequence[str]) -> bytes:
        """Publish an order to forget these channels, and delete their states. Returns the id of its entry."""
        id: bytes = await self.publish_order(order)
        await self.clear_states(id, channels)
        return id

    def publish_order(self, order: bytes) -> Deferred[Any]:
        """Add an order to every server that reads the stream, as an entry that is not a message."""
        return self.command(*self._adding([b"control", order])).addErrback(not_published)

    def _adding(self, fields: Sequence[bytes]) -> tuple[str | bytes | int, ...]:
        return (b"XADD", self._stream, b"MAXLEN", b"~", self._size, b"*", *fields)

    async def refusal(self) -> str | None:
        """Why Redis accepts no entries at present; None if it does. Adds none: this key is no stream."""
        try:
            await self.command(b"XADD", self._stream + b":check", b"NOMKSTREAM", b"*", b"check", b"1")
        except (NotAllowed, ResponseError) as error:
            return str(error) if str(error).startswith(_NO_ENTRIES) else None
        return None

    async def claim(self, renew: bool = False) -> str:
        """Return the tag of the stream, after setting one if it has none. renew: set another one."""
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
            raise ResponseError("the stream was deleted at this moment")
        return tag

    async def check(self) -> None:
        """Raise the error that a server would meet at its start, without any change of the stream."""
        await self.read(b"0-0", 1)
        await self.states()
        try:
            # With this position it fails in any case, but only after everything else has been checked.
            await self.command(b"XGROUP", b"CREATE", self._stream, GROUP, b"none", b"MKSTREAM")
        except ResponseError as error:
            if "Invalid stream ID" not in str(error):
                raise

    async def survey(self) -> Survey:
        """Look at the stream as a whole."""
        return _survey_in(await self.command(b"XINFO", b"STREAM", self._stream))

    async def read(self, after: bytes, most: int, wait: float = 0) -> Lot:
        """The next entries, and the stream at that moment, in one step.

        Without this, entries that are trimmed between two commands would go unnoticed. after: an id. most:
        the maximum number of entries. wait: seconds to wait for the first.
        """
        waiting = None
        if wait:
            # Sent together with the transaction, which then needs no further round trip.
            block = (b"BLOCK", int(wait * 1000))
            waiting = self.command(b"XREAD", b"COUNT", 1, *block, b"STREAMS", self._stream, after)
        looked = Deferred.fromCoroutine(self._look(after, most + 1))
        if waiting is not None:
            waiting.addErrback(lambda _: None)  # the transaction fails with the same error
            await waiting
        found, stream, groups = await looked
        if isinstance(found, Exception):
            raise found
        if isinstance(stream, Exception):
            return Lot([], None, None, False, True)
        holds = bool(found) and found[0][0] == after
        entries = found[1:] if holds else found[:most]
        complete = len(found) <= most
        return Lot(entries, _tag_in(groups), _survey_in(stream), holds, complete)

    async def _look(self, after: bytes, most: int) -> list[Any]:
        """Entries, and what XINFO says about the stream and its groups."""
        commands = [
            (b"XRANGE", self._stream, after, b"+", b"COUNT", most),
            (b"XINFO", b"STREAM", self._stream),
            (b"XINFO", b"GROUPS", self._stream),
        ]
        try:
            return await self.transaction(commands)
        except ResponseError as error:
            if not str(error).startswith("OOM"):
                raise
            full = error
        # Redis has no memory left, and then refuses each transaction, but no script that only reads. Without
        # this, a stream that fills Redis would not be trimmed, since what is not read is not trimmed.
        try:
            return await self._run_script(READ, [self._stream], [after, b"%d" % most])
        except NotAllowed:
            raise full from None

    async def last_before(self, id: bytes) -> bytes | None:
        """The id of the last entry before this id."""
        found = await self.command(b"XREVRANGE", self._stream, b"(" + id, b"-", b"COUNT", 1)
        return found[0][0] if found else None

    async def now(self) -> int:
        """The time of Redis in milliseconds, which the ids of entries count."""
        seconds, microseconds = await self.command(b"TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def trim(self, oldest: int) -> None:
        """Drop the entries that are older than this time in milliseconds, or too many."""
        await self.command(b"XTRIM", self._stream, b"MINID", oldest)
        await self.command(b"XTRIM", self._stream, b"MAXLEN", b"~", self._size)


def _parts(publications: Iterable[Publication]) -> Iterator[list[tuple[list[bytes], str | None]]]:
    """The entries that one script adds: fields and idempotency key of each; made when they are sent."""
    part: list[tuple[list[bytes], str | None]] = []
    count = 0
    for each in publications:
        fields = _fields_of(each)
        if part and (len(part) == SCRIPT_ENTRIES or count + len(fields) > FIELDS_IN_SCRIPT):
            yield part
            part, count = [], 0
        part.append((fields, each.idempotency_key))
        count += len(fields)
    yield part


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


def _survey_in(answer: Sequence[Any]) -> Survey:
    facts = dict(zip(answer[::2], answer[1::2], strict=True))
    first = facts[b"first-entry"]
    return Survey(
        first[0] if first else None,
        facts[b"last-generated-id"],
        facts[b"length"],
        facts.get(b"entries-added"),
        facts.get(b"max-deleted-entry-id"),
    )


def _tag_in(groups: Sequence[Any]) -> str | None:
    """The tag that our group holds among these, as XINFO GROUPS lists them."""
    for group in groups:
        facts = dict(zip(group[::2], group[1::2], strict=True))
        if facts[b"name"] == GROUP:
            ms, _, n = facts[b"last-delivered-id"].partition(b"-")
            return f"{int(ms) << 40 ^ int(n):x}"[-16:]
    return None
