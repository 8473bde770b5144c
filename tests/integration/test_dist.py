"""`make dist`: one file that serves where there is nothing but Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import ROOT, need, until
from tests.harness.servers import RedisServer, SseServer

pytestmark = pytest.mark.timeout(600)  # pip may have to fetch


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, made from a copy of the sources."""
    source = tmp_path_factory.mktemp("dist") / "cyclone-sse"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "build", "dist", "dropin.cache")
    shutil.copytree(ROOT, source, ignore=unwanted)
    subprocess.run(
        [need("make"), "dist", f"VENV={sys.prefix}"], cwd=source, check=True, capture_output=True, timeout=500
    )
    moved = tmp_path_factory.mktemp("elsewhere") / "cyclone-sse.pex"
    (source / "dist" / "cyclone-sse.pex").rename(moved)
    shutil.rmtree(source)
    return moved


class Alone(SseServer):
    """The file with an environment of its own: a path to Python, and a home."""

    def __init__(self, directory: Path, executable: Path, *options: str) -> None:
        super().__init__(directory, *options, twistd=executable)

    def argv(self) -> list[str]:
        path = f"PATH={sys.base_prefix}/bin:/usr/bin:/bin"
        return ["/usr/bin/env", "-i", path, f"HOME={self.directory}", *super().argv()]


def test_it_serves_with_an_empty_environment(executable: Path, tmp_path: Path) -> None:
    with Alone(tmp_path, executable, "--demo=1") as server, Subscriber(server.url) as reader:
        publish(server.url, "base", "x")
        assert reader.data(1) == ["x"]
        assert request("GET", f"{server.url}/demo").status == 200


def test_its_workers_are_the_same_file(executable: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    broker = ["--broker=redis", f"--redis-port={redis_server.port}", "--workers=2"]
    with Alone(tmp_path, executable, *broker) as server:
        until(lambda: "2 workers of cyclone-sse serve" in server.log, 60, "both to serve")
        assert request("GET", f"{server.url}/stats").status == 200
