"""The clients of the soak, of several kinds: they stay, are cut off often, sleep, or poll.

A life is one coroutine, which is cancelled when the soak is over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import jwt

from bench.soak.ledger import Findings, Ledger, Witness
from bench.soak.web import Ended, Stream
from tests.harness.eventstream import Parser

SECRET = "the secret of all tokens of the soak"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a client behaves; times are seconds, drawn evenly between the two."""

    name: str
    stay: tuple[float, float] = (1e9, 1e9)  # until it is cut off, or sleeps
    away: tuple[float, float] = (0.0, 1.0)  # until it reconnects
    doze: tuple[float, float] = (0.0, 0.0)  # connected, but without reading
    reset: bool = False
    poll: bool = False
    forgets: bool = False  # reconnects as a new client, with a channel that had no client before

    @property
    def sleeps(self) -> bool:
        """Whether the client sometimes stops reading, instead of disconnecting."""
        return self.doze[1] > 0


KINDS = (
    Kind("faithful"),
    Kind("restless", stay=(0.0, 1.0), away=(0.0, 0.2)),
    Kind("commuter", stay=(2.0, 10.0), away=(0.5, 3.0), reset=True),
    Kind("sleeper", stay=(1.0, 4.0), doze=(4.0, 10.0)),
    Kind("poller", poll=True, away=(0.0, 0.05)),
    Kind("tourist", stay=(0.5, 3.0), forgets=True),
)


@dataclass(slots=True)
class Crowd:
    """The state that all clients share: the server's port, the published messages, and the findings."""

    port: int
    ledger: Ledger
    findings: Findings = field(default_factory=Findings)
    connected: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def make_token(user: str, channels: Sequence[str]) -> str:
    """Return a token for these channels that is valid longer than the soak."""
    claims = {"sub": user, "subscribe": list(channels), "exp": int(time.time()) + 86400}
    return jwt.encode(claims, SECRET, "HS256")


class Client:
    """One client."""

    def __init__(self, crowd: Crowd, number: int, kind: Kind, channels: Sequence[str]) -> None:
        self.crowd = crowd
        self.kind = kind
        self.channels = list(channels)
        self.witness = Witness(f"{kind.name} {number}", channels, crowd.ledger, crowd.findings)
        self._random = random.Random(number)
        self._parser = Parser()
        self._position = ""  # the Last-Event-ID to resume with
        # Two clients for each user, with different parameters, so that each kind has clients with all.
        self._token = make_token(f"user {number // 2}", [*channels, "visit-*"])
        way = number // len(KINDS)
        self._query = [("fields", "channel")] if way % 2 else []
        self._query += [("presence", "1")] if way // 2 % 2 and not kind.poll else []

    async def live(self) -> None:
        """Connect again and again, until cancelled."""
        while True:
            try:
                stream = await self._connect()
            except Ended:
                self.crowd.counts["refused"] += 1
                await asyncio.sleep(0.2)
                continue
            self.crowd.connected += 1
            try:
                await self._listen(stream)
            finally:
                self.crowd.connected -= 1
                stream.cut(self.kind.reset)
            await asyncio.sleep(self._random.uniform(*self.kind.away))

    async def _connect(self) -> Stream:
        self._parser = Parser()  # without a new parser, the rest of an event that was cut off would be kept
        if self.kind.forgets:
            self._forget()
        stream = await Stream.open(
            self.crowd.port,
            self.witness.channels,
            self._position,
            self._parser,
            token=self._token,
            query=self._query,
            poll=self.kind.poll,
        )
        if not self._position:
            self.witness.opened()
            self._position = stream.position
        self.crowd.counts["connects"] += 1
        return stream

    def _forget(self) -> None:
        visit = f"visit-{self.crowd.counts['connects']}"
        self.witness = Witness(
            self.witness.name, [*self.channels, visit], self.crowd.ledger, self.crowd.findings
        )
        self._position = ""

    async def _listen(self, stream: Stream) -> None:
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._random.uniform(*self.kind.stay)):
                        await self._read(stream)
                if not self.kind.sleeps:
                    return
                # Meanwhile the kernel's buffers fill, then the server's, which may cut this client off.
                await asyncio.sleep(self._random.uniform(*self.kind.doze))
        except Ended:
            self.crowd.counts["polls" if self.kind.poll else "ended by the server"] += 1

    async def _read(self, stream: Stream) -> None:
        while True:
            for event in await stream.events():
                self.witness.event(event.type, event.data, event.id)
            self._position = self._parser.last_id or self._position
