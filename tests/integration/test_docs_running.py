"""Every command of docs/running.md, run as it stands there, and each name in it exists."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.daemon.metrics import PREFIX, Metrics
from cyclone_sse.options import OPTIONS
from tests.harness.certificates import write_certificates
from tests.harness.docs import commands
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, accepts, free_port, until
from tests.harness.twistd import TWISTD
from tests.unit.daemon.test_metrics import sources

PAGE = "running.md"
TEXT = (ROOT / "docs" / PAGE).read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the commands are run: with a certificate."""
    write_certificates(tmp_path)
    shutil.copy(tmp_path / "chain.pem", tmp_path / "server.crt")
    shutil.copy(tmp_path / "leaf.key", tmp_path / "server.key")
    return tmp_path


def run(command: str, directory: Path, **env: str) -> str:
    """Run it in a shell; gives what it says."""
    path = f"{TWISTD.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=directory,
        env={"PATH": path, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_commands_do_what_is_said(directory: Path) -> None:
    check, start, rotate = commands(PAGE)
    port, ssl_port = free_port(), free_port()
    env = {"CYCLONE_SSE_PORT": str(port), "CYCLONE_SSE_SSL_PORT": str(ssl_port)}
    assert f"would serve http://127.0.0.1:{port}/ and https://127.0.0.1:{ssl_port}/" in run(
        check, directory, **env
    )
    run(start, directory, **env)
    pid, log = directory / "sse.pid", directory / "sse.log"
    try:
        until(lambda: accepts(port), "the daemon to serve")
        log.rename(directory / "sse.log.1")
        run(rotate, directory)
        until(lambda: log.exists() and "opened the log" in log.read_text(), "a new log")
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
    until(lambda: not pid.exists(), "the daemon to end")


def test_options_metrics_and_files_that_are_named_exist() -> None:
    known = {f"--{row.name}" for row in OPTIONS} | {"--uid", "--pidfile", "--logfile"}
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", TEXT)) <= known
    for name in re.findall(r"extras/([\w.@-]+)", TEXT):
        assert (ROOT / "extras" / name).exists()
    for name in re.findall(r"`(cyclone-sse[\w.@-]+\.(?:service|socket|env))`", TEXT):
        assert (ROOT / "extras" / name).exists()


def test_metrics_that_are_named_exist() -> None:
    metrics = list(Metrics(sources(HttpBroker({}, reactor=Clock()))).collect())
    names = {metric.name for metric in metrics} | {each.name for metric in metrics for each in metric.samples}
    table = TEXT.partition("| metric")[2].partition("\n\n")[0]
    firsts = "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    named = set(re.findall(r"`([a-z_]+)(?:\{[^`]*)?`", firsts))
    assert len(named) > 10
    names |= {f"{PREFIX}refusals_total", f"{PREFIX}stream_lag_entries", f"{PREFIX}journal_waiting_bytes"}
    assert {name if name.startswith("process_") else PREFIX + name for name in named} <= names
