"""`--check=1`: every mistake at once, a line for each; or what would be done."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.harness.process import free_port
from tests.integration.test_server import twistd


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys.pem").write_text("damaged")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ended = twistd(
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
        f"cannot listen on 127.0.0.1:{taken}: ",
    ):
        assert [said in line for line in lines].count(True) == 1, f"{said} once in {lines}"
    assert all(line.startswith("cyclone-sse: ") for line in lines)
    assert len(lines) == 7


def test_without_mistakes_it_says_what_it_would_do(tmp_path: Path) -> None:
    port = free_port()
    checked = twistd(tmp_path, "--check=1", f"--port={port}", "--listen=0.0.0.0", "--history-size=7")
    assert checked.returncode == 0
    lines = checked.stdout.splitlines()
    assert lines[0] == f"would serve http://0.0.0.0:{port}/"
    assert any("7 events a channel" in line for line in lines)
    assert any(line.startswith("warning: whoever reaches this server") for line in lines)
    assert checked.stderr == ""


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    secret = "x" * 31
    words = [f"--jwt-secret={secret}", "--http-secret=hush", f"--port={free_port()}"]
    for secrets in (words, [f"{words[0]}x", *words[1:]]):
        checked = twistd(tmp_path, "--check=1", *secrets)
        assert secret not in checked.stdout + checked.stderr
        assert "hush" not in checked.stdout + checked.stderr


@pytest.mark.parametrize("endpoint", ["unix:{directory}/sse.sock", "systemd:domain=INET:index=0"])
def test_endpoints_leave_nothing_behind(tmp_path: Path, endpoint: str) -> None:
    checked = twistd(tmp_path, "--check=1", f"--endpoint={endpoint.format(directory=tmp_path)}")
    assert checked.returncode == 0, checked.stderr
    assert not list(tmp_path.glob("*.sock"))


def test_the_history_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_text("this is no history")
    port = f"--port={free_port()}"
    damaged = twistd(tmp_path, "--check=1", port, "--history-file=bad.db")
    assert damaged.returncode != 0
    assert "--history-file=bad.db is damaged" in damaged.stderr
    assert len(damaged.stderr.splitlines()) == 1
    nowhere = twistd(tmp_path, "--check=1", port, "--history-file=no/where.db")
    assert nowhere.returncode != 0
    new = twistd(tmp_path, "--check=1", port, "--history-file=new.db")
    assert new.returncode == 0, new.stderr
    assert not list(tmp_path.glob("new.db*"))
