"""Presence: the cost of a burst of joins for the members of a room, and for the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import jwt

from bench.contestants import Contestant, daemon
from bench.load import settle
from bench.results import OURS
from bench.rounds import Round, started

SECRET = "the secret of all tokens of the benchmark"
ROOM, HALL = "room", "hall"  # the hall is the same without presence
RULES = f'["{ROOM}"]\npresence = true\n'
EVENT = b"event: sse-presence"
AFTER = 1.5  # seconds in which the last changes are announced
CONNECTING = 50  # at a time


@dataclass(eq=False, slots=True)
class Member(asyncio.Protocol):
    """One stream, which counts its presence events."""

    request: bytes
    events: int = 0
    transport: asyncio.Transport | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    _end: bytes = b""  # of the last bytes: an event's line may arrive in two parts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.opened.set()
        seen = self._end + data
        self.events += seen.count(EVENT)
        self._end = seen[1 - len(EVENT) :]


def burst(round_: Round) -> None:
    """Double the members within ten seconds; only once, in the last round, since this takes long."""
    if not round_.is_last:
        return
    plan, results = round_.plan, round_.results
    file = round_.folder() / "channels.toml"
    file.write_text(RULES)
    options = [f"--channels={file}", f"--jwt-secret={SECRET}"]
    # the first sends its members only numbers, as by default, the second the members' names
    counted, plain = daemon(round_.folder(), *options), daemon(round_.folder(), *options)
    listed = daemon(round_.folder(), *options, "--presence-max=100000")
    with started(counted, listed, plain):
        rooms = [_Room(counted, ROOM), _Room(listed, ROOM), _Room(plain, HALL)]
        asyncio.run(_join(rooms, plan.members, plan.join_seconds))
    for name, room in (("numbers", rooms[0]), ("names", rooms[1])):
        results.add(f"presence {name} events", OURS, room.most)
        extra = (room.spent - rooms[2].spent) / plan.join_seconds * 100
        results.add(f"presence {name} processor", OURS, extra)


@dataclass(slots=True)
class _Room:
    """A channel of one server with its members, and the results of the burst."""

    server: Contestant
    channel: str
    members: list[Member] = field(default_factory=list)
    most: int = 0  # events that a member from before the burst has received
    spent: float = 0.0  # seconds of processor time

    async def enter(self) -> None:
        """Subscribe another user, and wait for the first bytes."""
        user = f"user-{len(self.members)}"
        claims = {"sub": user, "subscribe": [ROOM, HALL], "exp": int(time.time()) + 3600}
        token = jwt.encode(claims, SECRET, "HS256")
        target = f"/?channels={self.channel}&presence=1"
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: 127.0.0.1:{self.server.port}",
            f"Authorization: Bearer {token}",
        ]
        member = Member(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.members.append(member)
        await asyncio.get_running_loop().create_connection(lambda: member, "127.0.0.1", self.server.port)
        async with asyncio.timeout(20):
            await member.opened.wait()


async def _join(rooms: Sequence[_Room], members: int, seconds: float) -> None:
    for _ in range(0, members, CONNECTING):
        await asyncio.gather(*(room.enter() for room in rooms for _ in range(CONNECTING)))
    await asyncio.sleep(AFTER)
    for room in rooms:
        settle(room.server)
    before = [(room.server.cpu(), [member.events for member in room.members]) for room in rooms]
    begin = time.monotonic()
    for number in range(members):
        await asyncio.sleep(max(0.0, begin + seconds * number / members - time.monotonic()))
        await asyncio.gather(*(room.enter() for room in rooms))
    await asyncio.sleep(AFTER)
    for room, (cpu, events) in zip(rooms, before, strict=True):
        room.spent = room.server.cpu() - cpu
        room.most = max(member.events - count for member, count in zip(room.members, events, strict=False))
    for room in rooms:
        for member in room.members:
            if member.transport:
                with suppress(OSError):
                    member.transport.abort()
