"""`make crowd`: a small one on a real daemon, and that its clients would see a fault."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.crowd.clients import Crowd
from bench.programs import compile_programs
from bench.report import replace_last_section, sections_after
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, need

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nLast-Event-ID: 1-0-tag\r\n\r\n\n\n"


def test_small_crowd_connects_hears_and_comes_back(tmp_path: Path) -> None:
    need("gcc")
    report = tmp_path / "BENCHMARK.md"
    words = ["--count=200", "--workers=1", "--broker=http", f"--output={report}"]
    command = [sys.executable, "-m", "bench.crowd", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    written = report.read_text()
    assert "200 clients with `fields=channel`, 1 workers, `--broker=http`" in written
    assert "200 of 200 connected in" in written
    assert "time to the last:" in written
    assert "50 were cut off and 200 of 200 were connected after" in written
    assert "lost 0, doubled 0, gaps 0" in written


class Server:
    """One connection at a time, by hand."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port = self._listener.getsockname()[1]

    def accept(self, sends: bytes) -> str:
        """Let the next client in, read its request, send; returns the request."""
        self.connection, _ = self._listener.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            request += self.connection.recv(4096)
        self.connection.sendall(sends)
        return request.decode()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def by_hand() -> Iterator[Server]:
    need("gcc")
    compile_programs()
    server = Server()
    yield server
    server.connection.close()
    server.close()


def event(number: int) -> bytes:
    return b"id: %d-0-tag\ndata: %d\n\n" % (number + 1000, number)


def test_clients_count_what_is_lost_doubled_and_told_as_a_gap(by_hand: Server) -> None:
    with Crowd(by_hand.port, 1) as crowd:
        crowd.begin()
        gap = b'event: sse-gap\ndata: {"channels": ["base"]}\n\n'
        by_hand.accept(HEAD + event(1) + event(4) + event(4) + gap + event(5))
        assert crowd.settle(10) == 1
        assert crowd.hear(5, 10)[0] == 1
        found = crowd.state()
    assert (found["lost"], found["doubled"], found["gaps"]) == (2, 1, 1)


def test_client_comes_back_with_its_last_id_when_it_was_told_to(by_hand: Server) -> None:
    with Crowd(by_hand.port, 1) as crowd:
        crowd.begin()
        assert "Last-Event-ID" not in by_hand.accept(HEAD + b"retry: 20\n\n")
        by_hand.connection.close()
        assert "Last-Event-ID: 1-0-tag\r\n" in by_hand.accept(HEAD + event(1) + b"id: 7-0-tag\ndata: 2\n")
        by_hand.connection.close()  # in the middle of an event, whose id does not count
        assert "Last-Event-ID: 1001-0-tag\r\n" in by_hand.accept(HEAD + event(2))
        assert crowd.hear(2, 10)[0] == 1
        found = crowd.state()
    assert (found["cut_off"], found["lost"], found["doubled"]) == (2, 0, 0)


def test_report_keeps_the_sections_of_others(tmp_path: Path) -> None:
    report = tmp_path / "BENCHMARK.md"
    report.write_text("# Benchmark\n\nOld.\n\n## How\n\nOld.\n\n## Crowd\n\nOld.\n")
    replace_last_section(report, "## Crowd", "New.\n")
    report.write_text("# Benchmark\n\nNew.\n\n## How\n\nNew.\n" + sections_after(report, "## How"))
    assert report.read_text() == "# Benchmark\n\nNew.\n\n## How\n\nNew.\n\n## Crowd\n\nNew.\n"
    assert sections_after(tmp_path / "none", "## How") == ""
