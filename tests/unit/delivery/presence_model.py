"""Servers whose reports take a while, their users, and an application that is told who joins and leaves."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.presence import CROSSING, HEARTBEAT, SILENCE
from tests.unit.delivery.clients import Recorder, make_hub
from tests.unit.fakes import TurnClock

ROOM = "room-1"
USERS = ("ann", "bob", "eve")
GRACE = 3.0
STEP = 0.01  # seconds
SERVERS = 3
PAUSES = (0.0, 0.0, 0.1, 0.3, GRACE - 0.2, GRACE - 0.1, GRACE, GRACE + 0.1, GRACE + 0.2, 5.0)


class PresenceModel:
    """Streams come and go at once, as browsers are closed, and servers stop. seed: of all that happens."""

    def __init__(self, seed: int, kinds: Path) -> None:
        self.random = random.Random(seed)
        self.clock = TurnClock()
        self.kinds = kinds
        self.delay = self.random.choice([0.0, 0.01, 0.1])
        self.servers: dict[Hub, float] = {}  # and when they started
        self.streams: list[tuple[str, Hub, Recorder]] = []
        self.present: dict[str, bool] = {}  # as the application knows
        while len(self.servers) < SERVERS:
            self._start()
            self.wait(self.random.random() / 4)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.clock.advance(STEP)

    def play(self, steps: int) -> None:
        """Let so many things happen, and then all servers agree."""
        for _ in range(steps):
            self.random.choice([self.join, self.join, self.join, self.close, self.close, self.stop])()
            self.wait(self.random.choice(PAUSES))
        self.wait(SILENCE + GRACE)

    def _start(self) -> None:
        hub = make_hub(self.clock, channels=str(self.kinds), presence_grace=GRACE)
        self.servers[hub] = self.clock.seconds()

        def report(message: Mapping[str, Any]) -> Deferred[Any]:
            text = json.dumps(message)
            for other in self.servers:
                if other is not hub:
                    self.clock.callLater(self.delay, self._receive, other, text)
            return succeed(None)

        def on_changes(_: str, joined: Mapping[str, Any], left: list[str]) -> None:
            self.present.update(dict.fromkeys(joined, True), **dict.fromkeys(left, False))

        hub.presence.on_changes = on_changes
        hub.presence.start(report, lambda: True)
        hub.presence.ask()

    def _receive(self, hub: Hub, text: str) -> None:
        if hub in self.servers:
            hub.presence.receive(json.loads(text))

    def join(self) -> None:
        self._join(self.random.choice(USERS))

    def _join(self, user: str) -> None:
        hub, client = self.random.choice(list(self.servers)), Recorder()
        client.user = user
        hub.subscribe(client, [ROOM])
        self.streams.append((user, hub, client))

    def close(self) -> None:
        """Close all streams of a user: the browser is closed."""
        user = self.random.choice(USERS)
        for name, hub, client in self.streams:
            if name == user:
                hub.unsubscribe(client)
        self.streams = [each for each in self.streams if each[0] != user]

    def stop(self) -> None:
        """Stop one server or two, and start as many. Most of the clients reconnect."""
        oldest, *others = self.servers
        if self.clock.seconds() - self.servers[oldest] < 2 * HEARTBEAT:
            return  # without this, no server might be left that knows the members of these
        self.wait(GRACE + CROSSING)  # what crosses with its last leaves would be lost
        stopped = self.random.sample(others, self.random.choice([1, 2]))
        gone = [each for each in self.streams if each[1] in stopped]
        self.streams = [each for each in self.streams if each[1] not in stopped]
        for _, hub, client in gone:
            hub.unsubscribe(client)
        for hub in stopped:
            hub.presence.stop()
            del self.servers[hub]
            self._start()
        for user, _, _ in gone:
            if self.random.random() < 0.8:
                self._join(user)

    def faults(self) -> Iterator[str]:
        """What the application, or a server, takes for true and is not."""
        here = {user for user, _, _ in self.streams}
        told = {user for user, present in self.present.items() if present}
        if told != here:
            yield f"the application was told of {told}, and present are {here}"
        for hub in self.servers:
            members = set(hub.presence._presence.room(ROOM).members)
            if members != here:
                yield f"a server has {members}, and present are {here}"
