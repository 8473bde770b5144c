"""What the daemon reports to systemd: that it is ready, alive, reloading and stopping."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from tests.harness.clients import Subscriber
from tests.harness.patience import PATIENCE
from tests.harness.servers import RedisServer, SseServer


class Systemd:
    """The socket to which a service reports.

    A thread reads it: the kernel keeps ten reports, and a test that stands still would lose the next.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._reports: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while report := self._socket.recv(1000):
            self._reports.put(report.decode())

    def wait(self, wanted: str, patience: float = PATIENCE) -> list[str]:
        """Wait for a report that begins so; returns those before it. Raises Empty if there is none."""
        before = []
        while not (report := self._reports.get(timeout=patience)).startswith(wanted):
            before.append(report)
        return before

    def close(self) -> None:
        """Read nothing more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """The socket of systemd."""
    with closing(Systemd(tmp_path / "notify")) as made:
        yield made


def test_it_says_what_it_does(tmp_path: Path, systemd: Systemd) -> None:
    env = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
    with SseServer(tmp_path, env=env) as server:
        systemd.wait("READY=1")
        systemd.wait("WATCHDOG=1")
        with Subscriber(server.url):
            os.kill(server.pid, signal.SIGHUP)
            systemd.wait("RELOADING=1\nMONOTONIC_USEC=")
            assert "STOPPING=1" not in systemd.wait("READY=1")
        os.kill(server.pid, signal.SIGTERM)
        systemd.wait("STOPPING=1")
        server.wait()


def test_it_is_ready_when_its_broker_is(tmp_path: Path, systemd: Systemd, redis_server: RedisServer) -> None:
    redis_server.pause()
    server = SseServer(
        tmp_path,
        "--broker=redis-stream",
        f"--redis-port={redis_server.port}",
        env={"NOTIFY_SOCKET": str(systemd.path)},
    )
    server.is_ready = lambda: "open files" in server.log  # type: ignore[method-assign]
    with server:
        with pytest.raises(Empty):
            systemd.wait("READY=1", patience=1)
        redis_server.resume()
        systemd.wait("READY=1")


def test_only_the_parent_of_workers_reports(
    tmp_path: Path, systemd: Systemd, redis_server: RedisServer
) -> None:
    options = ["--workers=2", "--broker=redis", f"--redis-port={redis_server.port}"]
    with SseServer(tmp_path, *options, env={"NOTIFY_SOCKET": str(systemd.path)}) as server:
        assert systemd.wait("READY=1") == []
        assert "2 workers of cyclone-sse serve" in server.log
        os.kill(server.pid, signal.SIGTERM)
        assert systemd.wait("STOPPING=1") == []
        server.wait()
