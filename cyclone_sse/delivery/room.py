"""The members of one channel on all servers, and what changed since it was last announced.

Plain Python. A change costs O(1), whatever the size of the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """The streams of one user in one channel on one server.

    since, latest: when the first and the last of them opened, Unix time. info: that of the last one, as JSON.
    """

    streams: int
    since: float = 0.0
    latest: float = 0.0
    info: str | None = None


NO_STREAMS = Entry(0)


def _latest(item: tuple[str, Entry]) -> tuple[float, str]:
    server, entry = item
    return entry.latest, server


class Room:
    """One channel: its members and anonymous streams, and what changed since the last announcement."""

    __slots__ = (
        "_announced",
        "_announced_anonymous",
        "_listed",
        "anonymous",
        "infos",
        "joined",
        "left",
        "members",
    )

    def __init__(self) -> None:
        self.members: dict[str, dict[str, Entry]] = {}  # user -> server -> the streams there
        self.infos: dict[str, str | None] = {}  # user -> the info of the stream that opened last
        self.anonymous: dict[str, int] = {}  # server -> streams
        self.joined: dict[str, str] = {}  # user -> the server where it happened
        self.left: dict[str, str] = {}
        self._announced_anonymous: int | None = 0  # None: clients know different numbers
        # Of users who joined or left: the info that was announced last; None: it was no member.
        self._announced: dict[str, tuple[str | None] | None] = {}
        self._listed: dict[str, tuple[str | None] | None] = {}  # the same, of changes before a list

    @property
    def anonymous_count(self) -> int:
        """Streams without a user, on all servers."""
        return sum(self.anonymous.values())

    @property
    def is_changed(self) -> bool:
        """Whether there is something to announce."""
        return bool(self.joined or self.left) or self.anonymous_count != self._announced_anonymous

    def set(self, server: str, user: str | None, entry: Entry, cause: str) -> None:
        """Note the streams of a user on a server. cause: the server where it happened."""
        if user is None:
            self.anonymous[server] = entry.streams
            if not entry.streams:
                del self.anonymous[server]
            return
        before, servers = self._shown(user), self.members.setdefault(user, {})
        servers.pop(server, None)
        if entry.streams:
            servers[server] = entry
        if servers:
            # By time, and not in the order of reports: without this, servers could show different infos.
            self.infos[user] = max(servers.items(), key=_latest)[1].info
        else:
            del self.members[user]
            self.infos.pop(user, None)
        if self._shown(user) != before:
            self._note(user, cause, before)

    def _note(self, user: str, cause: str, before: tuple[str | None] | None) -> None:
        """Note that a user has joined, has left, or has another info. before: the info until now; None if the
        user was no member.

        A user who left and joined again between two announcements was never seen to leave, except by the
        clients that were sent a list meanwhile.
        """
        self.joined.pop(user, None)
        self.left.pop(user, None)
        now = self._shown(user)
        if user not in self._listed and self._announced.setdefault(user, before) == now:
            del self._announced[user]
        elif now is None:
            self.left[user] = cause
        else:
            self.joined[user] = cause

    def _shown(self, user: str) -> tuple[str | None] | None:
        return (self.infos[user],) if user in self.infos else None

    def is_as_announced(self, user: str) -> bool:
        """Whether a user who joined or left is as announced last: only clients with a list see a change."""
        return user in self._listed and self._listed[user] == self._shown(user)

    def note_listed(self) -> None:
        """Note that clients are sent a list of the members as they are now.

        Without this, a user who joins and leaves before the next announcement would stay a member for them.
        """
        self._listed.update(self._announced)
        self._announced = {}
        if self.anonymous_count != self._announced_anonymous:
            self._announced_anonymous = None

    def note_announced(self) -> None:
        """Note that everything so far has been announced."""
        self.joined, self.left, self._announced, self._listed = {}, {}, {}, {}
        self._announced_anonymous = self.anonymous_count


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in a channel since the last announcement.

    joined: user -> info. anonymous: streams without a user. here: the users whose change happened on this
    server, or on one that was killed and whose leaves this server counts as its own; without those who are
    as they were at the last announcement.
    """

    joined: Mapping[str, str | None]
    left: list[str]
    anonymous: int
    here: frozenset[str]
