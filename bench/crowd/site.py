"""The servers of the crowd: the daemon with its workers, and the Redis that they share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import all_processes, resident_bytes
from bench.results import LeftOut
from tests.harness.clients import publish
from tests.harness.process import until
from tests.harness.servers import RedisServer, SseServer

LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp
STREAM = "cyclone-sse"  # the daemon's default
DRAIN = 5  # seconds over which a worker that is replaced ends its streams


@dataclass(slots=True)
class Site:
    """A running daemon, and Redis if the broker uses one."""

    daemon: SseServer
    redis: RedisServer | None
    broker: str
    workers: int

    def publish(self, number: int) -> None:
        """Publish a number, directly to Redis if there is one, so that no worker is needed."""
        if self.redis and self.broker == "redis":
            self.redis.publish("base", str(number))
        elif self.redis:
            answer = self.redis.command("XADD", STREAM, "*", "channel", "base", "message", str(number))
            assert answer.startswith(b"$"), answer
        else:
            publish(self.daemon.url, "base", str(number))

    def processes(self) -> list[int]:
        """The daemon and its descendants."""
        parents = {pid: int(fields[1]) for pid, fields in all_processes()}
        found = [self.daemon.pid]
        for pid in found:  # the list grows during the loop
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def memory(self) -> int:
        """Resident bytes of the daemon's processes."""
        return resident_bytes(self.processes())

    def replace_worker(self) -> None:
        """End one worker with SIGTERM, and wait until a new worker listens."""
        before = set(self.processes())
        old = min(before - {self.daemon.pid})
        os.kill(old, signal.SIGTERM)
        until(lambda: old not in self.processes(), "the end of the old worker")
        until(lambda: set(self.processes()) - before, "a new worker")
        self.wait_for_workers()

    def wait_for_workers(self) -> None:
        """Wait until each worker listens: before that, the kernel passes its clients to the others."""
        until(lambda: self._listeners() >= self.workers, "all workers listen")

    def _listeners(self) -> int:
        """The number of sockets that listen on the daemon's port: one for each worker (proc(5), net/tcp)."""
        entries = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(entry[3] == LISTEN and entry[1].endswith(f":{self.daemon.port:04X}") for entry in entries)


@contextmanager
def running(directory: Path, broker: str, workers: int, options: Sequence[str]) -> Iterator[Site]:
    """Start the servers, and stop them in the end; raises LeftOut if the daemon rejects its options."""
    with ExitStack() as stack:
        words = [f"--broker={broker}"]
        redis = stack.enter_context(RedisServer(directory)) if broker.startswith("redis") else None
        words += [f"--redis-port={redis.port}"] if redis else []
        words += [f"--workers={workers}", f"--drain={DRAIN}"] if workers > 1 else []
        daemon = SseServer(directory, *words, *options)
        try:
            daemon.start()
        except AssertionError as error:
            raise LeftOut(str(error).strip().splitlines()[-1]) from None
        stack.callback(_stop, daemon)
        site = Site(daemon, redis, broker, workers)
        site.wait_for_workers()
        yield site


def _stop(daemon: SseServer) -> None:
    """End the daemon, which ends its workers: a signal to the group would reach each worker a second time."""
    os.kill(daemon.pid, signal.SIGTERM)
    daemon.wait()
    daemon.check_log()
