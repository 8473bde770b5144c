"""The members of channels on all servers: what each server reported, merged.

Every server reports only the streams of its own clients, so that reports of two servers cannot contradict
each other. A report has the server's sequence number; if one is missing, the other servers request the whole
state. So all servers have the same members in the end, even if messages are reordered, repeated or lost. A
server that is killed is noticed by its silence. A server that stops announces that, and its members stay for
the grace period, in which they reconnect to other servers.

Plain Python: messages are JSON objects; the time, in seconds of a monotonic clock, is an argument. A join or
a leave costs O(1), for any size of the room.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from cyclone_sse.deadlines import Deadlines, grain_for
from cyclone_sse.delivery.room import NO_STREAMS, Changes, Entry, Room
from cyclone_sse.strict_json import is_utf8

HEARTBEAT = 5.0  # seconds between two messages of a server that has nothing to report
SILENCE = 20.0  # seconds without a message after which a server counts as killed
ASK_AGAIN = 2.0  # seconds between two questions to one server
MESSAGE_ENTRIES = 200  # entries of one message: at most 200 kB, mostly a tenth of it
PEERS = 1000  # servers; messages of more of them must be a mistake
WAITING = 200  # reports of a server that are kept while one before them is missing
MOST_LEFT = 20_000  # users whose last stream has gone, during an outage of the broker
LEARNS = 1.0  # seconds in which a server that starts has learned who is there
CROSSING = 3.0  # seconds in which reports of two servers may cross, with their ticks and announcements

# In a report, the streams of a user who has none on this server: is it a member by another server's reports?
_NO_MEMBER, _ELSEWHERE = 0, -1

Message = dict[str, Any]
Key = tuple[str, str | None]  # a channel, and a user; None: all anonymous streams of the channel


@dataclass(slots=True)
class _Peer:
    """Another server, as far as its reports have come."""

    known_at: float  # when its first message came
    heard_at: float
    seq: int = 0  # everything up to this report is in the rooms
    entries: dict[Key, Entry] = field(default_factory=dict)
    waiting: dict[int, list[Any]] = field(default_factory=dict)  # reports behind a missing one
    whole: dict[int, list[Any]] = field(default_factory=dict)  # parts of an answer to a question
    whole_id: tuple[int, int] = (0, 0)  # the report up to which that answer goes, and its own number
    complete: tuple[int, list[list[Any]]] | None = None  # an answer with all parts, and its report
    is_catching_up: bool = False  # its reports are being applied, in slices
    asked_at: float = float("-inf")
    ends: float | None = None  # when its members leave, once it has announced that it stops


class Presence:
    """The members of all channels, as this server knows them.

    server: the name of this server, which no other has. grace: seconds that a user stays a member after the
    last stream has gone.
    """

    def __init__(self, server: str, grace: float) -> None:
        self._server = server
        self._grace = grace
        self._rooms: dict[str, Room] = {}
        self._changed: dict[str, None] = {}  # channels
        self._own: dict[Key, Entry] = {}
        self._leaving: Deadlines[Key] = Deadlines(grain_for(grace))  # users without a stream
        # Those whose last stream here has gone, until all servers know. See `_cause`.
        self._left_lately: Deadlines[Key] = Deadlines(0.5)
        self._apart_at = float("-inf")  # when messages were last not received
        self._unreported: dict[Key, None] = {}
        self._seq = 0
        self._sent_at = float("-inf")
        self._peers: dict[str, _Peer] = {}
        self._outbox: list[Iterator[Message]] = []
        self._whole_numbers = count(1)

    # The clients of this server.

    def join(self, channel: str, user: str | None, info: str | None, opened: float) -> None:
        """Count one more stream of this user in the channel.

        user: None where the stream has none. info: JSON. opened: Unix time.
        """
        key = (channel, user)
        entry = self._own.get(key)
        if entry is None:
            self._set_own(key, Entry(1, opened, opened, info))
        elif key in self._leaving:
            self._leaving.clear(key)  # a reload: the other members see nothing of it, except a new info
            if not info == entry.info == self.room(channel).infos.get(str(user)):
                self._set_own(key, Entry(1, entry.since, opened, info))
        else:
            self._set_own(key, Entry(entry.streams + 1, entry.since, opened, info))

    def leave(self, channel: str, user: str | None, now: float) -> None:
        """Count one stream less. now: seconds of the monotonic clock."""
        key = (channel, user)
        entry = self._own.get(key)
        if entry is None or key in self._leaving:
            return
        if user is None or entry.streams > 1:
            self._set_own(key, Entry(entry.streams - 1, entry.since, entry.latest, entry.info))
        else:
            self._leaving.set(key, now + self._grace)

    def _set_own(self, key: Key, entry: Entry) -> None:
        if entry.streams:
            self._own[key] = entry
        else:
            del self._own[key]
        self._unreported[key] = None
        self._set(self._server, key, entry, self._server)

    def _note_left(self, key: Key, now: float) -> None:
        if len(self._left_lately) < MOST_LEFT:
            self._left_lately.set(key, now + CROSSING)

    def _cause(self, server: str, key: Key, is_told: bool) -> str:
        """The server that tells the application of a change that another server has reported.

        is_told: whether that server has seen the member leave. If not, the streams on both servers may have
        gone at once, or the user may have come back there while this server was telling of the leave. Without
        this, no server would tell of such a change: each would take it for the other's.
        """
        return self._server if not is_told and key in self._left_lately else server

    def _set(self, server: str, key: Key, entry: Entry, cause: str) -> None:
        channel, user = key
        room = self._rooms.get(channel)
        if room is None:
            if not entry.streams:
                return
            room = self._rooms[channel] = Room()
        room.set(server, user, entry, cause)
        self._changed[channel] = None

    @property
    def has_own(self) -> bool:
        """Whether this server has members, or changes that were not announced."""
        return bool(self._own or self._unreported or self._changed)

    # The members.

    def room(self, channel: str) -> Room:
        """The members of a channel."""
        return self._rooms.get(channel) or Room()

    def changed_channels(self) -> list[str]:
        """The channels for which `pop_changes` may have something."""
        return list(self._changed)

    def pop_changes(self, channel: str) -> Changes | None:
        """The changes in this channel since the last call; None if there are none."""
        self._changed.pop(channel, None)
        room = self._rooms.get(channel)
        if room is None:
            return None
        changes = None
        if room.is_changed:
            causes = {**room.joined, **room.left}
            here = frozenset(
                user
                for user, cause in causes.items()
                if cause == self._server and not room.is_as_announced(user)
            )
            joined = {user: room.infos[user] for user in room.joined}
            changes = Changes(joined, list(room.left), room.anonymous_count, here)
            room.note_announced()
        if not room.members and not room.anonymous:
            del self._rooms[channel]
        return changes

    # Other servers.

    def receive(self, message: Mapping[str, Any], now: float) -> Generator[None, None, None]:
        """Process a message of another server, in slices; malformed parts are ignored.

        The next message may come before the last slice; the reports of one server are applied in order.
        """
        server = message.get("server")
        if not isinstance(server, str) or server == self._server:
            return
        if "ask" in message:
            if message["ask"] in (None, self._server):
                self._outbox.append(self._whole())
            return
        peer = self._peers.get(server)
        if peer is None:
            if len(self._peers) >= PEERS:
                return
            peer = self._peers[server] = _Peer(now, now)
        peer.heard_at = now
        if "bye" in message:
            peer.ends = now + self._grace
            return
        seq, changes = message.get("seq"), message.get("changes")
        if type(seq) is not int:
            return
        if "part" in message:
            self._receive_part(peer, message)
        elif isinstance(changes, list) and seq > peer.seq and len(peer.waiting) < WAITING:
            peer.waiting[seq] = changes
        if peer.is_catching_up:
            return
        peer.is_catching_up = True
        try:
            yield from self._catch_up(server, peer)
        finally:  # without this, nothing of this server would be applied after an error
            peer.is_catching_up = False
        if seq > peer.seq and now - peer.asked_at >= ASK_AGAIN:
            peer.asked_at = now
            self._outbox.append(iter([{"server": self._server, "ask": server}]))

    def _receive_part(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        seq, number, part, parts = (message.get(name) for name in ("seq", "whole", "part", "parts"))
        changes = message.get("changes")
        if not (isinstance(seq, int) and isinstance(number, int) and isinstance(part, int)):
            return
        if not (isinstance(parts, int) and isinstance(changes, list)) or seq < peer.seq:
            return
        if (seq, number) < peer.whole_id:
            return
        if (seq, number) > peer.whole_id:
            peer.whole_id, peer.whole = (seq, number), {}
        peer.whole[part] = changes
        if len(peer.whole) >= parts:
            peer.complete, peer.whole = (seq, list(peer.whole.values())), {}

    def _catch_up(self, server: str, peer: _Peer) -> Iterator[None]:
        """Apply the reports of a server that have come, and those that come meanwhile, in slices."""
        while self._peers.get(server) is peer:  # else it was dropped between two slices
            if peer.complete is not None:
                (peer.seq, parts), peer.complete = peer.complete, None
                yield from self._replace(server, peer, parts)
            elif (changes := peer.waiting.pop(peer.seq + 1, None)) is not None:
                for key, entry, is_told in _entries(changes):
                    self._set_of(server, peer, key, entry, is_told)
                peer.seq += 1  # after an error this report is missing, and the members are requested
                if peer.waiting:
                    yield
            else:
                break
        if peer.waiting and min(peer.waiting) <= peer.seq:
            peer.waiting = {seq: changes for seq, changes in peer.waiting.items() if seq > peer.seq}

    def _replace(self, server: str, peer: _Peer, parts: Iterable[list[Any]]) -> Iterator[None]:
        """Replace the members of a server by these. Those that stay are not absent between two slices."""
        gone = dict.fromkeys(peer.entries)
        for changes in parts:
            for key, entry, _ in _entries(changes):
                self._set_of(server, peer, key, entry)
                gone.pop(key, None)
            yield
            if self._peers.get(server) is not peer:
                return
        for number, key in enumerate(gone, 1):
            self._set_of(server, peer, key, NO_STREAMS)
            if not number % MESSAGE_ENTRIES:
                yield
                if self._peers.get(server) is not peer:
                    return

    def _set_of(self, server: str, peer: _Peer, key: Key, entry: Entry, is_told: bool = False) -> None:
        if entry.streams:
            peer.entries[key] = entry
        else:
            peer.entries.pop(key, None)
        self._set(server, key, entry, self._cause(server, key, is_told))

    def ask_all(self) -> None:
        """Ask every server for its members, since this one has just started."""
        self._outbox.append(iter([{"server": self._server, "ask": None}]))

    def stop(self) -> None:
        """Announce that this server stops: its members stay for the grace period."""
        self._outbox.append(iter([{"server": self._server, "bye": True}]))

    def tick(self, now: float, connected: bool = True) -> Iterator[None]:
        """Remove, in slices, the members whose grace period is over, and those of servers that are gone.

        connected: whether messages are received; if not, the silence of other servers proves nothing.
        """
        while due := self._leaving.pop_due(now, MESSAGE_ENTRIES):
            for key in due:
                self._set_own(key, NO_STREAMS)
                self._note_left(key, now)
            yield
        if not connected:
            self._apart_at = now
        while now - self._apart_at >= 2 * HEARTBEAT and self._left_lately.pop_due(now, MESSAGE_ENTRIES):
            yield
        for server, peer in list(self._peers.items()):
            if not connected:
                peer.heard_at = now
            if peer.heard_at + SILENCE <= now or (peer.ends is not None and peer.ends <= now):
                del self._peers[server]
                yield from self._drop(server, peer, now)

    def _drop(self, server: str, peer: _Peer, now: float) -> Iterator[None]:
        """Drop the members of a server that is gone. One of the others counts their leaves as its own.

        Not one that may be gone too, or that may have started too late to know them: it would not tell the
        application of them.
        """
        others = [
            name
            for name, other in self._peers.items()
            if other.ends is None
            and other.heard_at + 2 * HEARTBEAT > now
            and other.known_at + LEARNS <= peer.heard_at
        ]
        speaker = min([self._server, *others])
        for number, key in enumerate(list(peer.entries), 1):
            back = self._peers.get(server)
            if back is None or key not in back.entries:  # else it is back, and has reported this
                self._set(server, key, NO_STREAMS, self._cause(speaker, key, False))
                if speaker == self._server:
                    self._note_left(key, now)
            if not number % MESSAGE_ENTRIES:
                yield

    def pop_messages(self, now: float) -> Iterator[Message]:
        """The messages to send to the other servers now, in this order. Read them one by one, in slices."""
        while self._unreported:
            keys = list(islice(self._unreported, MESSAGE_ENTRIES))
            for key in keys:
                del self._unreported[key]
            self._seq += 1
            self._sent_at = now
            changes = [self._change(key) for key in keys]
            yield {"server": self._server, "seq": self._seq, "changes": changes}
        outbox, self._outbox = self._outbox, []
        for messages in outbox:
            yield from messages
        yield from self.pop_heartbeat(now)

    def pop_heartbeat(self, now: float) -> Iterator[Message]:
        """The message of a server that has sent none for a while, so that it does not count as killed."""
        if now - self._sent_at >= HEARTBEAT:
            self._sent_at = now
            yield {"server": self._server, "seq": self._seq}

    def _change(self, key: Key) -> list[Any]:
        channel, user = key
        entry = self._own.get(key)
        if entry is not None:
            return _streams(key, entry)
        return [channel, user, _ELSEWHERE if user in self.room(channel).members else _NO_MEMBER]

    def _whole(self) -> Iterator[Message]:
        """All members of this server, in parts. Unreported changes follow in the next report."""
        seq, number, entries = self._seq, next(self._whole_numbers), list(self._own.items())
        starts = range(0, len(entries), MESSAGE_ENTRIES) or range(1)
        for part, start in enumerate(starts):
            changes = [_streams(key, entry) for key, entry in entries[start : start + MESSAGE_ENTRIES]]
            place = {"seq": seq, "whole": number, "part": part, "parts": len(starts)}
            yield {"server": self._server, **place, "changes": changes}


def _streams(key: Key, entry: Entry) -> list[Any]:
    return [*key, entry.streams, entry.since, entry.latest, entry.info]


def _entries(changes: list[Any]) -> Iterator[tuple[Key, Entry, bool]]:
    """The changes of a message that are well-formed, and whether the server has seen the member leave."""
    for change in changes:
        if not isinstance(change, list) or len(change) not in (3, 6):
            continue
        channel, user, streams, *rest = change
        if not (_is_name(channel) and (user is None or _is_name(user)) and type(streams) is int):
            continue
        if streams <= 0:
            yield (channel, user), NO_STREAMS, streams == _NO_MEMBER
        elif len(rest) == 3 and {type(rest[0]), type(rest[1])} <= {int, float} and _is_info(rest[2]):
            yield (channel, user), Entry(streams, *rest), False


def _is_name(value: object) -> bool:
    """Whether this is text that can be sent. Without this, one member could break the list of all members."""
    return isinstance(value, str) and is_utf8(value)


def _is_info(text: object) -> bool:
    """Whether this is None, or text that can be a part of a list in JSON."""
    if text is None:
        return True
    try:
        json.loads(str(text))
    except (ValueError, RecursionError):
        return False
    return _is_name(text)
