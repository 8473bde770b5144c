"""`--check=1`: every mistake at once, a line for each; or what would be done."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.harness.certificates import tls_options, write_certificates
from tests.harness.clients import request
from tests.harness.patience import PATIENCE
from tests.harness.process import free_port
from tests.harness.servers import RabbitServer, RedisServer
from tests.harness.twistd import run_plugin
from tests.integration.conftest import Serve


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys.pem").write_text("damaged")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ended = run_plugin(
            tmp_path,
            "--check=1",
            f"--port={taken}",
            "--retry=x",
            "--use-ssl=1",
            "--ssl-cert=missing.crt",
            "--app=missing.App",
            "--jwt-keys=keys.pem",
            "--export=graphite",
            CYCLONE_SSE_REDIS_PORT="0",
        )
    assert ended.returncode != 0
    lines = ended.stderr.splitlines()
    for said in (
        "--retry=x: ",
        "CYCLONE_SSE_REDIS_PORT=0: ",
        "--export=graphite needs",
        "missing.crt: ",
        "--app=missing.App: ",
        "keys.pem",
    ):
        assert [said in line for line in lines].count(True) == 1, f"{said} once in {lines}"
    assert all(line.startswith("cyclone-sse: ") for line in lines)
    assert len(lines) == 6


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_two_options_name(tmp_path: Path, listen: str) -> None:
    port = free_port()
    ended = run_plugin(tmp_path, "--check=1", f"--port={port}", f"--listen={listen}", f"--admin-port={port}")
    assert ended.returncode != 0
    assert f"http://127.0.0.1:{port}/ and http://{listen}:{port}/: two options name" in ended.stderr


def test_without_mistakes_it_says_what_it_would_do(tmp_path: Path) -> None:
    port = free_port()
    checked = run_plugin(tmp_path, "--check=1", f"--port={port}", "--listen=0.0.0.0", "--history-size=7")
    assert checked.returncode == 0
    lines = checked.stdout.splitlines()
    assert lines[0] == f"would serve http://0.0.0.0:{port}/"
    assert any("7 events for each channel" in line for line in lines)
    assert any(line.startswith("warning: any client may publish") for line in lines)
    assert checked.stderr == ""


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    secret = "x" * 31
    words = [f"--jwt-secret={secret}", "--http-secret=hush", f"--port={free_port()}"]
    for secrets in (words, [f"{words[0]}x", *words[1:]]):
        checked = run_plugin(tmp_path, "--check=1", *secrets)
        assert secret not in checked.stdout + checked.stderr
        assert "hush" not in checked.stdout + checked.stderr


@pytest.mark.parametrize("endpoint", ["unix:{directory}/sse.sock", "systemd:domain=INET:index=0"])
def test_endpoints_leave_nothing_behind(tmp_path: Path, endpoint: str) -> None:
    checked = run_plugin(tmp_path, "--check=1", f"--endpoint={endpoint.format(directory=tmp_path)}")
    assert checked.returncode == 0, checked.stderr
    assert not list(tmp_path.glob("*.sock"))


def test_the_history_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "not in use.db").write_text("this is no history")
    port = f"--port={free_port()}"
    damaged = run_plugin(tmp_path, "--check=1", port, "--history-file=not in use.db")
    assert damaged.returncode != 0
    assert "--history-file=not in use.db is damaged" in damaged.stderr
    assert len(damaged.stderr.splitlines()) == 1
    nowhere = run_plugin(tmp_path, "--check=1", port, "--history-file=no/where.db")
    assert nowhere.returncode != 0
    new = run_plugin(tmp_path, "--check=1", port, "--history-file=new.db")
    assert new.returncode == 0, new.stderr
    assert not list(tmp_path.glob("new.db*"))


def test_it_runs_beside_the_live_server(serve: Serve, tmp_path: Path) -> None:
    options = [f"--history-file={tmp_path / 'history.db'}", f"--endpoint=unix:{tmp_path / 'sse.sock'}"]
    files = tls_options(write_certificates(tmp_path))
    admin = f"--admin-port={free_port()}"
    server = serve(*options, f"--endpoint=tcp:{(port := free_port())}", *files, admin)
    ports = [f"--endpoint=tcp:{port}", f"--ssl-port={server.ssl_port}"]
    context = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
    checked = run_plugin(tmp_path, "--check=1", *ports, *options, *files, admin)
    assert checked.returncode == 0, checked.stderr
    in_use = [line for line in checked.stdout.splitlines() if "in use by the running server" in line]
    assert len(in_use) == 5, checked.stdout
    assert request("GET", f"{server.ssl_url}/stats", tls=context).status == 200
    assert (tmp_path / "sse.sock").exists()


def test_it_tries_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    words = ["--check=1", f"--port={free_port()}", f"--redis-port={redis_server.port}"]
    for broker in ("redis", "redis-stream"):
        assert run_plugin(tmp_path, *words, f"--broker={broker}").returncode == 0
    wrong = run_plugin(tmp_path, *words, "--broker=redis", "--redis-password=hush")
    assert wrong.returncode != 0
    assert "--broker=redis: refused by Redis" in wrong.stderr
    redis_server.stop()
    for broker, server in (("redis", "Redis"), ("redis-stream", "stream 'cyclone-sse' of Redis")):
        away = run_plugin(tmp_path, *words, f"--broker={broker}")
        assert away.returncode != 0
        assert f"--broker={broker}: cannot reach {server}" in away.stderr
        assert len(away.stderr.splitlines()) == 1
        assert "hush" not in wrong.stderr + away.stderr


@pytest.mark.parametrize("exists", [False, True])
def test_it_changes_nothing_in_redis(tmp_path: Path, redis_server: RedisServer, exists: bool) -> None:
    command = redis_server.command
    command("FLUSHALL")
    if exists:
        command("XADD", "cyclone-sse", "1-1", "channel", "a", "message", "old", "keep", "1")
    before = command("DUMP", "cyclone-sse"), command("KEYS", "*")
    words = ["--check=1", f"--port={free_port()}", f"--redis-port={redis_server.port}"]
    checked = run_plugin(tmp_path, *words, "--broker=redis-stream")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert (command("DUMP", "cyclone-sse"), command("KEYS", "*")) == before
    command("ACL", "SETUSER", "default", "-xgroup")
    denied = run_plugin(tmp_path, *words, "--broker=redis-stream")
    command("ACL", "SETUSER", "default", "+xgroup")
    assert denied.returncode != 0
    assert "NOPERM" in denied.stderr, "the start would fail"
    assert (command("DUMP", "cyclone-sse"), command("KEYS", "*")) == before
    command("SET", "other", "no stream")
    other = run_plugin(tmp_path, *words, "--broker=redis-stream", "--redis-stream=other")
    assert "WRONGTYPE" in other.stderr


@pytest.mark.rabbitmq
def test_it_changes_nothing_in_rabbitmq(serve: Serve, tmp_path: Path, rabbit_server: RabbitServer) -> None:
    words = ["--check=1", f"--port={free_port()}", "--broker=amqp", f"--amqp-port={rabbit_server.port}"]
    before = rabbit_server.listed("list_exchanges", "name")
    checked = run_plugin(tmp_path, *words, "--amqp-exchange-name=new")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "warning: --broker=amqp: RabbitMQ has no exchange 'new'" in checked.stdout
    assert rabbit_server.listed("list_exchanges", "name") == before
    other = run_plugin(tmp_path, *words, "--amqp-exchange-name=amq.topic", "--amqp-exchange-type=fanout")
    assert other.returncode != 0
    assert "inequivalent arg 'type'" in other.stderr
    serve(*words[2:], "--amqp-exchange-name=new")
    checked = run_plugin(tmp_path, *words, "--amqp-exchange-name=new")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "RabbitMQ" not in checked.stdout


def test_a_right_that_redis_denies_is_a_warning(tmp_path: Path, redis_server: RedisServer) -> None:
    """The server would start without it."""
    redis_server.command("ACL", "SETUSER", "sse", "on", ">hush", "+@all", "&allowed*", "~*")
    try:
        words = [
            "--broker=redis",
            f"--redis-port={redis_server.port}",
            "--redis-user=sse",
            "--redis-password=hush",
        ]
        checked = run_plugin(tmp_path, "--check=1", f"--port={free_port()}", *words)
    finally:
        redis_server.command("ACL", "DELUSER", "sse")
    assert checked.returncode == 0, checked.stderr
    assert "warning: --broker=redis: Redis at " in checked.stdout
    assert "does not allow orders between servers" in checked.stdout


@pytest.mark.rabbitmq
def test_it_tries_rabbitmq(tmp_path: Path, rabbit_server: RabbitServer) -> None:
    words = ["--check=1", f"--port={free_port()}", "--broker=amqp"]
    well = run_plugin(tmp_path, *words, f"--amqp-port={rabbit_server.port}")
    assert well.returncode == 0, well.stderr
    wrong = run_plugin(tmp_path, *words, f"--amqp-port={rabbit_server.port}", "--amqp-password=hush")
    assert wrong.returncode != 0
    assert wrong.stderr.startswith("cyclone-sse: --broker=amqp: ")
    assert "hush" not in wrong.stderr


def test_it_asks_the_application(tmp_path: Path) -> None:
    words = ["--check=1", f"--port={free_port()}"]
    with socket.create_server(("127.0.0.1", 0)) as application:
        url = f"--auth-url=http://127.0.0.1:{application.getsockname()[1]}/may"
        asked = answer_once(application, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        well = run_plugin(tmp_path, *words, url)
        assert well.returncode == 0, well.stderr
        assert asked.result(PATIENCE).startswith(b"GET /may?channels=")
        answer_once(application, b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
        failing = run_plugin(tmp_path, *words, url)
        assert failing.returncode != 0
        assert "--auth-url" in failing.stderr
        assert "500" in failing.stderr
    away = run_plugin(tmp_path, *words, url)
    assert away.returncode != 0
    assert len(away.stderr.splitlines()) == 1
    assert "--auth-url" in away.stderr


def answer_once(server: socket.socket, answer: bytes) -> Future[bytes]:
    """Give the next connection this answer, and give what it asked."""
    asked: Future[bytes] = Future()

    def run() -> None:
        client, _ = server.accept()
        with client:
            asked.set_result(client.recv(65536))
            client.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return asked
