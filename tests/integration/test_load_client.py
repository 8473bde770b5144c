"""extras/client.py, the load client: what it opens, publishes, measures and says when it cannot."""

from __future__ import annotations

import json
import shlex
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port, need, until
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve

CLIENT = [sys.executable, str(ROOT / "extras" / "client.py")]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLIENT, *words], check=False, capture_output=True, text=True, timeout=PATIENCE)


def report(*words: str) -> dict[str, Any]:
    done = run("--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_opens_streams_and_leaves(server: SseServer) -> None:
    result = report("-n", "50", "-c", "7", "-u", f"{server.url}/?channels=base")
    assert (result["connected"], result["failed"], result["closed_by_server"]) == (50, {}, 0)
    until(lambda: not stats(server.url), "no client is left")


@pytest.mark.parametrize(
    ("window", "size", "streams"), [("1", "60", 100), ("4", "60", 100), ("3", "200000", 20)]
)
def test_every_message_reaches_every_stream(server: SseServer, window: str, size: str, streams: int) -> None:
    url = f"{server.url}/?channels=base"
    result = report("-n", str(streams), "-u", url, "--publish", "20", "-w", window, "-s", size)
    assert (result["published"], result["delivered"]) == (20, 20 * streams)
    assert result["expected"] == 20 * streams
    assert 0 < result["first_subscriber"]["p50"] <= result["last_subscriber"]["p50"]
    assert result["last_subscriber"]["p50"] <= result["last_subscriber"]["max"]


def test_text_report_and_another_channel(serve: Serve) -> None:
    server = serve("--http-secret=hush")
    url = f"{server.url}/?channels=a%20b"
    done = run("-n", "3", "-u", url, "--publish", "2", "--channel", "a b", "--key", "hush")
    assert done.returncode == 0, done.stderr
    assert "2, 6 of 6 deliveries" in done.stdout
    assert done.stdout.endswith(
        "\nAll 3 streams opened and stayed open, and 2 messages reached each that was read.\n"
    )
    assert done.stderr == ""  # no bar without a terminal


def test_a_bar_on_a_terminal(server: SseServer) -> None:
    words = shlex.join([*CLIENT, "-n", "3", "-u", f"{server.url}/?channels=base"])
    command = [need("script"), "-qec", words, "/dev/null"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    assert "connecting [########################################] 3/3" in done.stdout


def test_streams_come_over_a_while(server: SseServer) -> None:
    result = report("-n", "20", "--ramp", "1", "-u", f"{server.url}/?channels=base")
    assert result["connected"] == 20
    assert result["connect_seconds"] > 0.9


def test_all_are_cut_off_and_come_back(serve: Serve) -> None:
    server = serve()
    words = ["-n", "30", "-c", "7", "--publish", "5", "--resume"]
    done = run(*words, "-u", f"{server.url}/?channels=base")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed           30 of 30 in " in done.stdout
    assert done.stdout.endswith("; disconnected, all reconnected and received what they had missed.\n")
    forgetful = serve("--history-size=2")
    done = run(*words, "-u", f"{forgetful.url}/?channels=base", "--timeout", "4")
    assert done.returncode == 1
    assert done.stdout.endswith(
        "\nIt did not hold: 30 of 30 that were cut off did not get what they missed.\n"
    )


@pytest.mark.slow
def test_some_do_not_read(serve: Serve) -> None:
    server = serve("--client-buffer=65536", "--stall-timeout=1")
    words = ["-n", "10", "--slow", "3", "-u", f"{server.url}/?channels=base", "--publish", "200"]
    words += ["--hold", "3"]
    done = run(*words, "-s", "100000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200, 1400 of 1400 deliveries" in done.stdout
    assert done.stdout.endswith("; of 3 that were not read, the server ended 3.\n")
    assert run(*words).stdout.endswith("; of 3 that were not read, the server ended 0.\n")


def test_streams_of_which_none_is_read_are_held_too(server: SseServer) -> None:
    begin = time.monotonic()
    done = run("-n", "2", "--slow", "2", "-u", f"{server.url}/?channels=base", "--hold", "1")
    assert time.monotonic() - begin >= 1
    assert done.stdout.endswith("\nAll 2 streams opened; of 2 that were not read, the server ended 0.\n")


def test_foreign_events_are_not_counted(server: SseServer) -> None:
    words = ["-n", "2", "-u", f"{server.url}/?channels=base", "--hold", "30", "--json"]
    with subprocess.Popen([*CLIENT, *words], stdout=subprocess.PIPE) as client:
        until(lambda: stats(server.url) == {"base": 2}, "both are there")
        publish(server.url, "base", "hello")
        server.stop()
        assert client.wait(PATIENCE) == 1
        assert client.stdout
        result = json.load(client.stdout)
    assert (result["delivered"], result["closed_by_server"]) == (0, 2)


def test_refusals_have_names(serve: Serve) -> None:
    server = serve("--http-secret=hush")
    done = run("-n", "2", "-u", f"{server.url}/")
    assert done.returncode == 1
    assert "2 x answer 400" in done.stdout
    assert done.stdout.endswith("\nIt did not hold: 2 of 2 streams did not open.\n")
    done = run("-n", "2", "-u", f"{server.url}/?channels=base", "--publish", "1")
    assert done.returncode == 2
    assert "publishing was refused" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-u", "https://127.0.0.1/"], "the URL must be like"),
        (["-u", "http://127.0.0.1:99999/"], "Port out of range"),
        (["-u", "http://[::1/"], "Invalid IPv6 URL"),
        (["-u", f"http://{'a' * 70}.example/"], "label empty or too long"),
        (["--timeout", "nan"], "invalid seconds value"),
        (["--hold", "1e300"], "invalid seconds value"),
        (["--ramp", "-1"], "invalid seconds value"),
        (["-n", "2000000000"], "file descriptors"),
        (["-n", "0"], "invalid positive value"),
        (["--resume"], "--resume needs --publish"),
        (["-n", "5", "--slow", "5", "--publish", "1"], "--slow must be less than --number"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], complaint: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


def serve_two(listener: socket.socket, then: str) -> None:
    """Open two streams. Then refuse, reset, or answer the publishing connection with what is not HTTP."""
    streams = [listener.accept()[0] for _ in range(2)]
    for stream in streams:
        stream.recv(4096)
    if then == "refuse":
        listener.close()
    for stream in streams:
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    if then != "refuse":
        publisher = listener.accept()[0]
        if then == "reset":
            publisher.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            publisher.recv(4096)
            publisher.sendall(then.encode() + b"\r\n\r\n")
            publisher.recv(4096)  # the end
        publisher.close()
    for stream in streams:
        stream.recv(4096)
        stream.close()


@pytest.mark.parametrize(
    ("then", "complaint"),
    [
        ("refuse", "no publishing connection: [Errno 111]"),
        ("reset", "publishing connection"),  # which breaks at once, or at the first bytes
        ("hello", "is not HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x", "is not HTTP"),
    ],
)
def test_a_server_that_goes_before_the_first_publish_is_one_line(then: str, complaint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/?channels=base"
        server = threading.Thread(target=serve_two, args=(listener, then), daemon=True)
        server.start()
        done = run("-n", "2", "-u", url, "--publish", "2", "-w", "2")
        server.join(PATIENCE)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert complaint in line


def test_a_refused_connection_is_counted() -> None:
    done = run("-n", "2", "-u", f"http://127.0.0.1:{free_port()}/?channels=base")
    assert done.returncode == 1
    assert "2 x Connection refused" in done.stdout
