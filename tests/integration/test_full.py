"""A server whose open files are used up: who is refused, who waits, and who gets through."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.certificates import tls_options, write_certificates
from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import free_port, need, until
from tests.harness.servers import SseServer

FILES = 110
IDLE = b"GET /stats HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = b"GET /?channels=base HTTP/1.1\r\nHost: a\r\n\r\n"


class Confined(SseServer):
    """A daemon that may have few open files."""

    def argv(self) -> list[str]:
        return [need("prlimit"), f"--nofile={FILES}:{FILES}", *super().argv()]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


def connect(opened: ExitStack, port: int, request: bytes = b"", count: int = 200) -> list[socket.socket]:
    """So many connections, each with this request."""
    made = []
    for _ in range(count):
        client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        made.append(client)
        if request:
            client.sendall(request)
    return made


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("over", ["tcp", "tls"])
@pytest.mark.parametrize("sent", [b"", IDLE], ids=["silent", "keep-alive"])
def test_idle_connections_keep_no_publisher_and_no_probe_out(
    tmp_path: Path, opened: ExitStack, over: str, sent: bytes
) -> None:
    admin = free_port()
    with Confined(tmp_path, *tls_options(write_certificates(tmp_path)), f"--admin-port={admin}") as server:
        if over == "tls" and sent:
            pytest.skip("what is not TLS is refused there")
        with Subscriber(server.url) as reader:
            connect(opened, server.port if over == "tcp" else server.ssl_port, sent)
            for number in range(5):
                publish(server.url, "base", str(number))
                assert request("GET", f"http://127.0.0.1:{admin}/healthz").status == 200
                assert request("GET", f"http://127.0.0.1:{admin}/metrics").status == 200
            assert reader.data(5) == list("01234"), "a stream is not closed for it"


def test_by_default_streams_are_refused_before_files_run_out(tmp_path: Path, opened: ExitStack) -> None:
    with Confined(tmp_path) as server:
        clients = connect(opened, server.port, STREAM)
        statuses = [client.recv(12)[-3:] for client in clients[:FILES]]
        assert b"200" in statuses
        assert statuses[-1] == b"503"
        publish(server.url, "base", "still served")


def test_streams_without_bound_wait_and_the_log_says_it_once(tmp_path: Path, opened: ExitStack) -> None:
    admin = free_port()
    with Confined(tmp_path, "--max-clients=0", f"--admin-port={admin}", "--demo=1") as server:
        clients = connect(opened, server.port, STREAM, 150)
        until(lambda: "no file descriptor is free" in server.log, "the complaint")
        used = cpu_seconds(server.pid)
        open_files = len(os.listdir(f"/proc/{server.pid}/fd"))
        assert FILES // 2 < open_files < FILES - 10, "some are left for files"
        assert request("GET", f"http://127.0.0.1:{admin}/healthz").status == 200
        for client in clients:
            client.close()
        with Subscriber(server.url) as reader:
            publish(server.url, "base", "recovered")
            assert reader.data(1) == ["recovered"]
        assert server.log.count("no file descriptor is free") == 1
        assert cpu_seconds(server.pid) - used < 1


def test_after_a_flood_a_newcomer_does_not_wait_behind_the_dead(tmp_path: Path, opened: ExitStack) -> None:
    with Confined(tmp_path, "--max-clients=0") as server:
        clients = connect(opened, server.port, STREAM, 100)
        until(lambda: "no file descriptor is free" in server.log, "the complaint")
        for dead in connect(opened, server.port, count=1000):
            dead.close()
        since = time.monotonic()
        for client in clients[:50]:
            client.close()
        assert request("GET", f"{server.url}/stats").status == 200
        assert time.monotonic() - since < 20, "not half a second for each handful of them"
