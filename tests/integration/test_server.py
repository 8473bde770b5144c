"""The daemon as its operator sees it: options, start, stop, what it says when something is wrong."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from cyclone_sse.options import OPTIONS
from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, accepts, free_port, until
from tests.harness.twistd import TWISTD, run_plugin, run_twistd
from tests.integration.conftest import Serve


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--port={used}", "in use"),
        ("--port={used} --broker=redis --workers=2", "in use"),
        ("--port={free} --admin-port={free}", "Address already in use"),
        ("--port={free} --history-file=missing/file", "missing/file cannot be opened"),
    ],
)
def test_in_the_background_a_start_that_fails_says_so(tmp_path: Path, options: str, reason: str) -> None:
    """twistd waits until the process that it leaves in the background has started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = options.format(used=other.getsockname()[1], free=free_port()).split()
        ended = run_twistd(tmp_path, "--pidfile=sse.pid", "--logfile=sse.log", "cyclone-sse", *words)
    assert ended.returncode == 1
    assert "cyclone-sse: " in ended.stderr  # twistd shows the first 100 letters, and names the log
    until(lambda: not (tmp_path / "sse.pid").exists(), "the removal of its pid file")
    log = tmp_path / "sse.log"
    until(lambda: reason in log.read_text(), "the reason in its log")  # written after that
    assert "Traceback" not in log.read_text()


def test_help_lists_every_option_with_its_default(tmp_path: Path) -> None:
    shown = run_plugin(tmp_path, "-h")
    assert shown.returncode == 0
    # Twisted wraps the text also behind a hyphen.
    words = " ".join(shown.stdout.split()).replace("- ", "-")
    for option in OPTIONS:
        assert f"--{option.name}=" in words
        if option.default:
            default = f"[default: {option.default}]".replace("- ", "-")
            assert default in words.partition(f"--{option.name}=")[2]


@pytest.mark.parametrize(
    "words",
    [
        ["--broker=x"],
        ["--port=70000"],
        ["--export=graphite"],
        ["--use-ssl=1"],
        ["--app=missing.App"],
        ["--app=json.missing"],
        ["--app=json"],
        ["--nonsense"],
        ["--amqp-spec=missing.xml", "--broker=amqp"],
    ],
)
def test_a_bad_option_is_one_line_and_a_failure(tmp_path: Path, words: list[str]) -> None:
    ended = run_plugin(tmp_path, *words)
    assert ended.returncode != 0
    told = [line for line in (ended.stdout + ended.stderr).splitlines() if "cyclone-sse: " in line]
    assert len(told) == 1
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_port_in_use_is_one_line_and_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_plugin(tmp_path, f"--port={port}")
    assert ended.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}: " in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


LATE = """
import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.server import App as Base


class LateBroker(HttpBroker):
    def start(self):
        super().start()
        started = Deferred()
        reactor.callWhenRunning(self.lose_port, started)
        return started

    def lose_port(self, started):
        self.rival = socket.create_server(("127.0.0.1", self.settings["port"]))
        started.callback(None)


class App(Base):
    def make_broker(self, settings, reactor):
        return LateBroker(settings, reactor=reactor)
"""


def test_a_port_that_another_server_has_taken_meanwhile_is_a_failure(tmp_path: Path) -> None:
    """The port is bound before the broker is ready, and listens when it is."""
    (tmp_path / "late.py").write_text(LATE)
    port = free_port()
    ended = run_plugin(tmp_path, f"--port={port}", "--app=late.App", PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert f"cannot listen on http://127.0.0.1:{port}/: Address already in use" in ended.stdout
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_secret_may_come_from_the_environment(serve: Serve) -> None:
    server = serve(env={"CYCLONE_SSE_HTTP_SECRET": "hush"})
    body = "channel=a&message=b"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert request("POST", f"{server.url}/publish", body, form).status == 401
    assert request("POST", f"{server.url}/publish", f"{body}&key=hush", form).status == 200
    assert "hush" not in server.log


def test_the_log_tells_the_start_and_no_clients(serve: Serve) -> None:
    server = serve()
    with Subscriber(server.url):
        publish(server.url, "base", "x")
    assert f"cyclone-sse serves {server.url}/ with the http broker" in server.log
    assert "open files" in server.log
    assert "subscribes" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_streams_cleanly(serve: Serve, number: signal.Signals) -> None:
    server = serve()
    readers = [Subscriber(server.url).wait_open() for _ in range(5)]
    slow = Subscriber(server.url, "slow", receive_buffer=4096).wait_open()
    for _ in range(5):
        publish(server.url, "slow", "x" * 500_000)
    idle = socket.create_connection(("127.0.0.1", server.port))
    server.send_signal(number)
    assert server.wait() in (0, -number)
    for reader in readers:
        reader.wait_end()
        reader.close()
    slow.close()
    idle.close()
    assert not accepts(server.port)
    server.check_log()


def test_in_the_background(tmp_path: Path) -> None:
    port = free_port()
    flags = ["--pidfile=sse.pid", "--logfile=sse.log"]
    subprocess.run(
        [TWISTD, *flags, "cyclone-sse", f"--port={port}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=True,
        timeout=PATIENCE,
    )
    pid = int((tmp_path / "sse.pid").read_text())
    until(lambda: accepts(port), "the daemon to serve")
    subprocess.run(["kill", str(pid)], check=True)
    until(lambda: not (tmp_path / "sse.pid").exists(), "the daemon to end")
    assert "Traceback" not in (tmp_path / "sse.log").read_text()


def test_the_file_limit_is_raised(serve: Serve) -> None:
    server = serve()
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard
