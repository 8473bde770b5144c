"""The soak itself: clients, publishers and, if wanted, the ends of servers, workers and brokers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from bench.machine import all_processes, resident_bytes
from bench.soak.clients import KINDS, Client, Crowd, Kind
from bench.soak.publisher import BASE, BULK, own, post_large, post_small
from tests.harness.servers import RedisServer, SseServer

BULK_RATE = 10.0  # large messages a second
LINES = 20  # of progress
OUTAGE = 2.0  # seconds for which Redis is stopped
PATIENCE = 30.0  # seconds at the end, after which missing events count as lost

Task = asyncio.Task[None]


class Soak:
    """A number of clients, and `rate` messages a second, on one server; `memory` is MiB over time."""

    def __init__(
        self, server: SseServer, crowd: Crowd, clients: int, rate: float, redis: RedisServer | None = None
    ) -> None:
        self.server = server
        self.redis = redis
        self.crowd = crowd
        self.rate = rate
        self.memory: list[float] = []
        self.restarts = 0
        self._clients = [Client(crowd, number, *_role(number)) for number in range(clients)]

    async def run(self, seconds: float, restart: float, progress: Callable[[float], None]) -> None:
        """Run the clients for `seconds`, then until no event is missing; `restart` is in seconds, or 0."""
        ledger, port = self.crowd.ledger, self.server.port
        lives = [asyncio.create_task(client.live()) for client in self._clients]
        publishers = [
            asyncio.create_task(post_small(port, ledger, len(self._clients), self.rate)),
            asyncio.create_task(post_large(port, ledger, BULK_RATE)),
        ]
        over = asyncio.Event()
        restarting = asyncio.create_task(self._restart(restart, over))
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            self._look_at_memory()
            progress(passed)
            await _watch([*lives, *publishers], seconds / LINES)
        over.set()
        await restarting
        await _cancel(publishers)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and any(client.witness.missing() for client in self._clients):
            await _watch(lives, 0.1)
        await _cancel(lives)
        for client in self._clients:
            client.witness.close()
        self._look_at_memory()

    async def _restart(self, every: float, over: asyncio.Event) -> None:
        """Kill the server and stop it, in turns; with Redis replace the workers, and kill Redis, in turns."""
        while every and not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), every)
                break
            if self.redis is not None and self.restarts % 2:
                await asyncio.to_thread(self.redis.kill)
                await asyncio.sleep(OUTAGE)
                await asyncio.to_thread(self.redis.start)
            elif self.redis is not None:
                os.kill(self.server.pid, signal.SIGHUP)  # only the supervisor, which replaces its workers
            else:
                await asyncio.to_thread(self.server.stop if self.restarts % 2 else self.server.kill)
                await asyncio.to_thread(self.server.start)
            self.restarts += 1

    def _look_at_memory(self) -> None:
        session = self.server.pid
        mine = [pid for pid, fields in all_processes() if int(fields[3]) == session]
        if mine:  # empty while the server restarts
            self.memory.append(resident_bytes(mine) / 2**20)


def _role(number: int) -> tuple[Kind, list[str]]:
    """A client's kind and channels: a common one, its own and, for some sleepers, one with large messages."""
    kind = KINDS[number % len(KINDS)]
    return kind, [BASE, own(number), *([BULK] if kind.sleeps and number < 10 * len(KINDS) else [])]


async def _watch(tasks: Sequence[Task], seconds: float) -> None:
    """Wait, and raise the exception of a failed task: no task ends by itself."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _cancel(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
