"""Announces the members of channels: to the clients that asked with ``presence=1``, and to the other servers.

A client is sent the whole list when its stream opens, and then the changes, at most once in each channel per
``ANNOUNCE_INTERVAL``: each member of a room receives one event, however many join at once. The bytes of an
announcement are made once for all clients of a channel. Without a kind of channel that has presence nothing
runs, and a client costs one comparison.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import PRESENCE_TYPE, encode
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.kinds import Kinds
from cyclone_sse.delivery.presence import Message, Presence
from cyclone_sse.delivery.room import Changes, Room
from cyclone_sse.patterns import is_glob
from cyclone_sse.slices import Slices, each, finish, finish_in_turns

TICK = 0.25  # seconds
SUSPENDED = 5.0  # seconds without a tick, after which this server did not run, perhaps with its machine
RENEWED_AT_ONCE = 1000  # channels of clients that are compared with changed kinds in one slice: about 3 ms
MEMBERS_AT_ONCE = 1000  # members of an answer that are written in one slice: about 3 ms
ANNOUNCE_INTERVAL = 1.1  # seconds, in a channel: ten seconds of joins make nine events

Report = Callable[[Mapping[str, Any]], Deferred[Any]]
# Called with the changes of a channel on this server: user -> info of those who joined, and those who left.
Observer = Callable[[str, Mapping[str, Any], list[str]], object]


class PresenceFeed:
    """The announcements of one server.

    kinds: which channels have presence. settings: presence-grace and presence-max. clock: Unix time.
    """

    def __init__(
        self,
        kinds: Kinds,
        settings: Mapping[str, Any],
        fanout: Fanout,
        reactor: IReactorTime,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kinds = kinds
        self.on_changes: Observer | None = None
        self._max: int = settings["presence-max"]
        self._fanout = fanout
        self._reactor = reactor
        self._clock = clock
        self._presence = Presence(secrets.token_hex(8), settings["presence-grace"])
        self._report: Report | None = None
        self._is_connected: Callable[[], bool] = lambda: True
        self._listeners: dict[str, dict[Client, None]] = {}
        self._joined: dict[Client, tuple[tuple[str, ...], str | None]] = {}  # channels, and the user
        self._newcomers: dict[str, list[Client]] = {}  # those that are due the list of a channel
        self._lists: dict[str, bytes] = {}  # the list of a channel as it is sent, until it changes
        self._counted: set[str] = set()  # channels of which some clients were last sent a number
        self._next: dict[str, float] = {}  # when a channel may be announced again
        self._slices = Slices(reactor)
        self._list_slices = Slices(reactor)
        self._ticked = reactor.seconds()
        self._has_missed = False  # messages of other servers, perhaps
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor

    # Clients.

    def add(self, client: Client, channels: Iterable[str]) -> None:
        """Count the client in the channels that have presence, and send it their lists if it wants them."""
        if not self._kinds.have_presence:
            return
        names = tuple(filter(self._has_presence, channels))
        if not names:
            return
        before, _ = self._joined.get(client, ((), None))
        self._joined[client] = ((*before, *names), client.user)
        since = self._clock()
        for channel in names:
            self._presence.join(channel, client.user, client.info, since)
            self._lists.pop(channel, None)
        if client.wants_presence:
            for channel in names:
                self._listeners.setdefault(channel, {})[client] = None
                # Without this, a thousand joins in one turn would make a thousand lists of a thousand.
                if not self._newcomers:
                    self._list_slices.add(each(self._pop_newcomers(), self._send_list, 1))
                self._newcomers.setdefault(channel, []).append(client)

    def remove(self, client: Client) -> None:
        """Stop counting the client in the channels to which it is not subscribed any more, or that have no
        presence any more."""
        before = self._joined.pop(client, None)
        if before is None:
            return
        joined, user = before
        present = frozenset(filter(self._has_presence, client.channels))
        left = [name for name in joined if name not in present]
        if present:
            self._joined[client] = tuple(name for name in joined if name in present), user
        now = self._reactor.seconds()
        for channel in left:
            self._presence.leave(channel, user, now)
            listeners = self._listeners.get(channel)
            if listeners is not None:
                listeners.pop(client, None)
                if not listeners:
                    del self._listeners[channel]

    def renew(self, clients: Iterable[Client]) -> None:
        """Count connected clients in the channels that have presence now: the kinds have changed."""
        self._list_slices.add(self._renew(clients))

    def _renew(self, clients: Iterable[Client]) -> Iterator[None]:
        compared = 0
        for client in clients:
            self.remove(client)
            joined, _ = self._joined.get(client, ((), None))
            present = frozenset(joined)
            self.add(client, [name for name in client.channels if name not in present])
            compared += 1 + len(client.channels)
            if compared >= RENEWED_AT_ONCE:
                compared = 0
                yield

    def _has_presence(self, channel: str) -> bool:
        return not is_glob(channel) and self._kinds.of(channel).presence

    def members(self, channel: str) -> Generator[None, None, str]:
        """The answer to ``GET /presence`` as JSON, in slices: each member with info, streams and since.

        Infos are JSON already: to read and to write them would cost many times as much.
        """
        room = self._presence.room(channel)
        anonymous = room.anonymous_count
        content = f'"count":{len(room.members)}'
        if len(room.members) <= self._max:
            # As they are now: they may change between two slices.
            present = [
                (user, room.infos[user], list(servers.values())) for user, servers in room.members.items()
            ]
            members: list[str] = []
            for user, info, entries in present:
                streams = sum(entry.streams for entry in entries)
                since = min(entry.since for entry in entries)
                name = json.dumps(user, ensure_ascii=False)
                members.append(f'{name}:{{"info":{info or "{}"},"streams":{streams},"since":{since}}}')
                if not len(members) % MEMBERS_AT_ONCE:
                    yield
            content = f'"members":{{{",".join(members)}}}'
        return _as_json(channel, content, anonymous)

    # Other servers.

    def start(self, report: Report, is_connected: Callable[[], bool]) -> None:
        """Start announcing.

        report: sends a message to the other servers. is_connected: whether their messages are received;
        without this, an outage of the broker would look as if all other servers had been killed.
        """
        self._report = report
        self._is_connected = is_connected
        self._ticking.start(TICK, now=False)

    def ask(self) -> None:
        """Ask the other servers for their members."""
        self._presence.ask_all()
        self._slices.add(self._send_messages())

    def stop(self) -> list[Deferred[Any]]:
        """Report that this server stops, and announce nothing more.

        The Deferreds fire when the reports have been sent.
        """
        if not self._ticking.running:
            return []
        self._ticking.stop()
        for channel in self._presence.changed_channels():
            # No other server tells the application of what has happened here.
            changes = self._presence.pop_changes(channel)
            if changes is not None:
                self._notify(channel, changes)
        if not self._kinds.have_presence or self._report is None:
            return []
        self._presence.stop()
        return [self._report(message) for message in self._presence.pop_messages(self._reactor.seconds())]

    def receive(self, message: object) -> None:
        """Process a message of another server."""
        if isinstance(message, Mapping) and self._kinds.have_presence:
            finish_in_turns(self._presence.receive(message, self._reactor.seconds()), self._slices)

    def _tick(self) -> None:
        now, is_on = self._reactor.seconds(), self._kinds.have_presence
        if not is_on or now - self._ticked >= SUSPENDED:
            self._has_missed = True
        self._ticked = now
        if not len(self._slices) and (is_on or self._presence.has_own):
            if is_on and self._has_missed:
                self._presence.ask_all()
            # Without this, all members on other servers would leave and join again: what those have sent in
            # the meantime is read after the first tick, or is requested now.
            hears = is_on and not self._has_missed and self._is_connected()
            self._slices.add(self._presence.tick(now, hears))
            self._slices.add(self._announce())
            self._slices.add(self._send_messages())
            self._has_missed = not is_on
        elif is_on:
            # Without this, a server with work for more than 20 seconds would count as killed.
            finish(self._send(self._presence.pop_heartbeat(now)))

    def _send_messages(self) -> Generator[None, None, None]:
        return self._send(self._presence.pop_messages(self._reactor.seconds()))

    def _send(self, messages: Iterable[Message]) -> Generator[None, None, None]:
        for message in messages:
            if self._report is not None:
                self._report(message)
            yield

    def _announce(self) -> Iterator[None]:
        now = self._reactor.seconds()
        for channel in self._presence.changed_channels():
            if self._next.get(channel, now) > now:
                continue
            changes = self._presence.pop_changes(channel)
            self._lists.pop(channel, None)
            listeners = self._listeners.get(channel)
            if not listeners:
                self._counted.discard(channel)
            if changes is None:
                self._next.pop(channel, None)
                continue
            self._next[channel] = now + ANNOUNCE_INTERVAL
            self._notify(channel, changes)
            if listeners:
                frame = self._changes_frame(channel, changes)
                self._fanout.each(list(listeners), lambda client, frame=frame: client.send(frame))  # type: ignore[misc]
            yield
        if len(self._next) > 10_000:
            self._next = {channel: due for channel, due in self._next.items() if due > now}

    def _notify(self, channel: str, changes: Changes) -> None:
        if self.on_changes is not None and changes.here:
            joined = {user: info for user, info in changes.joined.items() if user in changes.here}
            self.on_changes(channel, joined, [user for user in changes.left if user in changes.here])

    # What is sent.

    def _pop_newcomers(self) -> Iterator[tuple[str, list[Client]]]:
        """Each channel with newcomers, also those that come meanwhile."""
        while self._newcomers:
            yield self._newcomers.popitem()

    def _send_list(self, newcomers: tuple[str, list[Client]]) -> None:
        """Send the newcomers of a channel its list, the same bytes to all of them."""
        channel, clients = newcomers
        # Without this, a client that has left the channel meanwhile would be sent its members.
        clients = [client for client in clients if client in self._listeners.get(channel, ())]
        frame = self._list_frame(channel)
        self._fanout.each(clients, lambda client: client.send(frame))

    def _list_frame(self, channel: str) -> bytes:
        frame = self._lists.get(channel)
        if frame is None:
            room = self._presence.room(channel)
            room.note_listed()
            if len(room.members) > self._max:
                self._counted.add(channel)
            frame = self._lists[channel] = _frame(channel, self._whole(room), room.anonymous_count)
        return frame

    def _whole(self, room: Room) -> str:
        if len(room.members) > self._max:
            return f'"count":{len(room.members)}'
        return f'"members":{_object(room.infos)}'

    def _changes_frame(self, channel: str, changes: Changes) -> bytes:
        members = len(self._presence.room(channel).members)
        if members > self._max:
            self._counted.add(channel)
            return _frame(channel, f'"count":{members}', changes.anonymous)
        if channel in self._counted:
            # Its clients know only the number. Without the list, they would learn only of those who change.
            self._counted.discard(channel)
            return self._list_frame(channel)
        left = json.dumps(changes.left, ensure_ascii=False)
        return _frame(channel, f'"joined":{_object(changes.joined)},"left":{left}', changes.anonymous)


def _frame(channel: str, content: str, anonymous: int) -> bytes:
    return encode(_as_json(channel, content, anonymous), None, PRESENCE_TYPE)


def _as_json(channel: str, content: str, anonymous: int) -> str:
    return f'{{"channel":{json.dumps(channel, ensure_ascii=False)},{content},"anonymous":{anonymous}}}'


def _object(infos: Mapping[str, str | None]) -> str:
    return f"{{{','.join([_member(user, info) for user, info in infos.items()])}}}"


@lru_cache(maxsize=20_000)
def _member(user: str, info: str | None) -> str:
    """One member of a list. Cached: a list of a thousand is made again for each user who joins."""
    return f"{json.dumps(user, ensure_ascii=False)}:{info or '{}'}"
