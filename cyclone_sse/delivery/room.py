"""The members of one channel on all servers, and what changed since it was last announced.

Plain Python. A change costs O(1), whatever the size of the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """The streams of one user in one channel on one server.

    since: when the first opened, Unix time. info: what is shown with the user, as JSON.
    """

    streams: int
    since: float = 0.0
    info: str | None = None


GONE = Entry(0)


class Room:
    """One channel: its members and anonymous streams, and what changed since the last announcement."""

    __slots__ = ("_announced", "announced_anonymous", "anonymous", "infos", "joined", "left", "members")

    def __init__(self) -> None:
        self.members: dict[str, dict[str, Entry]] = {}  # user -> server -> the streams there
        self.infos: dict[str, str | None] = {}  # user -> the info of the first stream
        self.anonymous: dict[str, int] = {}  # server -> streams
        self.joined: dict[str, str] = {}  # user -> the server where it happened
        self.left: dict[str, str] = {}
        self.announced_anonymous = 0
        # Of those who joined or left: the info that was announced last; None for who was not there.
        self._announced: dict[str, tuple[str | None] | None] = {}

    @property
    def anonymous_count(self) -> int:
        """Streams without a user, on all servers."""
        return sum(self.anonymous.values())

    @property
    def is_changed(self) -> bool:
        """Whether there is something to announce."""
        return bool(self.joined or self.left) or self.anonymous_count != self.announced_anonymous

    def set(self, server: str, user: str | None, entry: Entry, cause: str) -> None:
        """Note the streams of a user on a server. cause: the server where it happened."""
        if user is None:
            self.anonymous[server] = entry.streams
            if not entry.streams:
                del self.anonymous[server]
            return
        servers = self.members.get(user)
        if entry.streams:
            if servers is None:
                servers = self.members[user] = {}
                self.infos[user] = entry.info
                self._note(user, cause, None)
            servers[server] = entry
        elif servers is not None:
            servers.pop(server, None)
            if not servers:
                del self.members[user]
                self._note(user, cause, (self.infos.pop(user),))

    def _note(self, user: str, cause: str, before: tuple[str | None] | None) -> None:
        """Note that a user has joined or left. before: the info until now; None if there was none.

        A user who left and joined again between two announcements was never seen to leave.
        """
        self.joined.pop(user, None)
        self.left.pop(user, None)
        announced = self._announced.setdefault(user, before)
        if user not in self.infos and announced is not None:
            self.left[user] = cause
        elif user in self.infos and announced != (self.infos[user],):
            self.joined[user] = cause
        else:
            del self._announced[user]

    def note_announced(self) -> None:
        """Note that everything so far has been announced."""
        self.joined, self.left, self._announced = {}, {}, {}
        self.announced_anonymous = self.anonymous_count


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in a channel since the last announcement.

    joined: user -> info. anonymous: streams without a user. here: the users whose change happened on this
    server, or on one that was killed and whose leaves this server counts as its own.
    """

    joined: Mapping[str, str | None]
    left: list[str]
    anonymous: int
    here: frozenset[str]
