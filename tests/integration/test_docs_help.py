"""The commands of docs/troubleshooting.md, docs/upgrade.md and docs/recipes.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness.clients import stats
from tests.harness.docs import commands, page_path
from tests.harness.process import ROOT, need, until
from tests.harness.servers import SseServer


def test_the_first_step(server: SseServer) -> None:
    subscribing, publishing, _ = commands("troubleshooting.md")
    need("curl")
    lines = [line.replace(":8888", f":{server.port}") for line in (subscribing, publishing)]
    with subprocess.Popen(["bash", "-c", f"exec {lines[0]}"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        try:
            until(lambda: stats(server.url) == {"base": 1}, "the stream")
            assert json.loads(subprocess.check_output(["bash", "-c", lines[1]])) == {"status": "ok"}
            assert any(line == b"data: hello\n" for line in curl.stdout)
        finally:
            curl.kill()


def test_the_reasons_are_those_of_the_server() -> None:
    """The second cell of the table of statuses, and the first of that of the log, quote the source."""
    source = "".join(path.read_text() for path in (ROOT / "cyclone_sse").rglob("*.py"))
    source = source.replace("{ANSWER_TIMEOUT:g}", "5")
    page = page_path("troubleshooting.md").read_text()
    statuses = page[page.index("| the reason says |") : page.index("What the log says")]
    logged = page[page.index("| log | cause |") : page.index("## Gaps")]
    first = [row.split("|")[2] for row in statuses.splitlines() if row.startswith("|")]
    first += [row.split("|")[1] for row in logged.splitlines() if row.startswith("|")]
    quoted = [words for cell in first for words in re.findall(r"`([^`]+)`", cell) if words != "false"]
    assert len(quoted) > 7
    for words in quoted:
        assert words in source, words


def test_each_alert_says_what_clients_notice() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "extras" / "alerts.yml").read_text())
    page = page_path("troubleshooting.md").read_text()
    assert set(re.findall(r"CycloneSse\w+", page)) == set(alerts)


def test_the_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "sse.conf").write_text("port=0\n")
    for line in (commands("troubleshooting.md")[-1], *commands("upgrade.md")):
        assert line.startswith("cyclone-sse check")
        env = os.environ | {"PYTHONPATH": str(ROOT), "CYCLONE_SSE_ENDPOINT": f"unix:{tmp_path}/sse.sock"}
        words = line.replace("FILE", "sse.conf").split()[1:]
        command = [sys.executable, "-m", "cyclone_sse", *words, "--port=0"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_of_the_recipes_starts(tmp_path: Path) -> None:
    """The application's commands are run by browser/test_recipes.py, with other ports."""
    (command, _, migrate, runserver, php_server, php) = commands("recipes.md")
    assert "migrate --run-syncdb" in migrate
    assert "runserver 127.0.0.1:8000" in runserver
    assert php == "php -S 127.0.0.1:8000 -t docs/recipes/php"  # as in tests/harness/recipes.py
    assert php_server == f"{command} --auth-url=http://127.0.0.1:8000/auth.php"
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    option = command.rpartition(" ")[2]
    with SseServer(tmp_path, option, cwd=tmp_path) as serving:
        assert stats(serving.url) == {}
    assert (tmp_path / "recipes.sqlite").exists()
