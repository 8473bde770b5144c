"""What users install: the wheel, built once, in environments that know nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import ROOT
from tests.harness.servers import SseServer

pytestmark = pytest.mark.timeout(600)  # pip may have to fetch


def run(*words: str | Path, code: int = 0) -> str:
    """Run a command away from the checkout and from the environment of the tests; returns what it says."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd="/"
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def environment(directory: Path) -> Path:
    """A new virtual environment; returns its bin directory."""
    venv.create(directory, with_pip=True, symlinks=True)
    return directory / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, since setuptools leaves things behind where it builds."""
    source = tmp_path_factory.mktemp("source") / "cyclone-sse"
    unwanted = shutil.ignore_patterns(
        ".*", "__pycache__", "node_modules", "build", "*.egg-info", "dropin.cache"
    )
    shutil.copytree(ROOT, source, ignore=unwanted)
    built = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, source)
    (path,) = built.glob("cyclone_sse-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with the lock and then the wheel, as the README says."""
    programs = environment(tmp_path_factory.mktemp("installed"))
    run(programs / "pip", "install", "--quiet", "--no-deps", "-r", ROOT / "requirements.txt")
    run(programs / "pip", "install", "--quiet", wheel)
    return programs


def test_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("cyclone_sse/**/*.py")}
    specifications = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("cyclone_sse/**/*.xml")}
    kinds = {".js", ".ts", ".html", ".css", ".svg"}  # the rest is for npm, and the README's picture
    pages = {path for path in ROOT.glob("media/*") if path.suffix in kinds}
    media = {f"cyclone_sse/media/{path.name}" for path in pages}
    plugin = {"twisted/plugins/cyclonesse_plugin.py"}
    expected = sources | specifications | media | plugin | {"cyclone_sse/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_installed_daemon_serves_from_any_directory(installed: Path, tmp_path: Path) -> None:
    assert "cyclone-sse" in run(installed / "twistd", "--help")
    with SseServer(tmp_path, "--demo=1", twistd=installed / "twistd") as server:
        with Subscriber(server.url) as subscriber:
            publish(server.url, "base", "[1, 2]")
            assert subscriber.data(1) == ["[1, 2]"]
        assert request("GET", f"{server.url}/demo").status == 200
        script = request("GET", f"{server.url}/media/jquery.sse.js").body
        assert script == (ROOT / "media" / "jquery.sse.js").read_bytes()


def test_lock_conflicts_with_nothing_but_two_stale_pins(installed: Path) -> None:
    complaints = run(installed / "pip", "check", code=1).splitlines()
    assert {line.split(",")[0] for line in complaints} == {
        "cyclone 1.3 has requirement twisted==19.2.1",
        "cyclone 1.3 has requirement pyOpenSSL==19.0.0",
    }


def test_without_the_lock_the_cure_is_told(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "bare")
    run(programs / "pip", "install", "--quiet", wheel)
    answer = run(programs / "twistd", "-n", "--pidfile=", "cyclone-sse", code=1)
    assert "pip install --no-deps -r requirements.txt" in answer.splitlines()[-1]
    assert "Traceback" not in answer
