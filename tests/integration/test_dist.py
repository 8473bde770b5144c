"""`make dist`: the wheel, the sdist, and one file that serves where there is nothing but Python."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from cyclone_sse import __version__
from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import ROOT, need
from tests.harness.servers import RedisServer, SseServer
from tests.integration.test_packaging import environment, python_of, run

pytestmark = pytest.mark.timeout(600)  # pip may have to fetch

PYTHON = f"py{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes from a copy of the sources; the copy is gone."""
    source = tmp_path_factory.mktemp("dist") / "cyclone-sse"
    unwanted = shutil.ignore_patterns(
        ".*", "__pycache__", "node_modules", "build", "dist", "dropin.cache", "vendored"
    )
    shutil.copytree(ROOT, source, ignore=unwanted)
    made = subprocess.run(
        [need("make"), "dist", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.tests"],
        cwd=source,
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    moved = tmp_path_factory.mktemp("elsewhere") / "dist"
    (source / "dist").rename(moved)
    shutil.rmtree(source)
    return moved


@pytest.fixture(scope="module")
def executable(dist: Path) -> Path:
    return dist / f"cyclone-sse-{__version__}-{PYTHON}.pyz"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"cyclone_sse-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return dist / f"cyclone_sse-{__version__}.tar.gz"


def test_there_are_three_files(dist: Path, executable: Path, wheel: Path, sdist: Path) -> None:
    assert set(dist.iterdir()) == {executable, wheel, sdist}


def test_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("cyclone_sse/**/*.*")}
    sources = {name for name in files if name.endswith((".py", ".xml")) and "/vendored/" not in name}
    kinds = (".js", ".ts", ".html", ".css", ".svg")  # the picture is the README's
    media = {f"cyclone_sse/media/{path.name}" for path in ROOT.glob("media/*") if path.suffix in kinds}
    expected = sources | media | {"twisted/plugins/cyclonesse_plugin.py", "cyclone_sse/py.typed"}
    cyclone = {name for name in names if name.startswith("cyclone_sse/vendored/")}
    assert {name for name in names - cyclone if ".dist-info/" not in name} == expected
    assert {"LICENSE.cyclone", "cyclone/web.py"} <= {
        name.removeprefix("cyclone_sse/vendored/") for name in cyclone
    }
    assert not [name for name in cyclone if "plugin" in name or "test" in name]


def test_cyclone_is_in_no_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "vendored" in name]


def test_the_sdist_builds_offline_from_the_one_wheel_of_cyclone(sdist: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "offline")
    run(programs / "pip", "install", "--quiet", "--upgrade", "setuptools", "wheel")
    fetched = tmp_path / "fetched"
    run(programs / "pip", "download", "--quiet", "--no-deps", "--dest", fetched, "cyclone==1.2")
    (cyclone,) = fetched.iterdir()
    words: list[str | Path] = [
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        sdist,
    ]
    run(programs / "pip", *words, env={"CYCLONE_WHEEL": str(cyclone)})
    (built,) = tmp_path.glob("*.whl")
    assert "cyclone_sse/vendored/cyclone/web.py" in zipfile.ZipFile(built).namelist()

    with cyclone.open("ab") as file:
        file.write(b"\0")
    digest = hashlib.sha256(cyclone.read_bytes()).hexdigest()
    refused = run(programs / "pip", *words, env={"CYCLONE_WHEEL": str(cyclone)}, code=1)
    assert f"is not the wheel of cyclone 1.2: its sha256 is {digest}" in refused
    missing = run(programs / "pip", *words, env={"PIP_NO_INDEX": "1"}, code=1)
    assert "set CYCLONE_WHEEL to the path of its wheel" in missing


class Alone(SseServer):
    """The file with an environment of its own: a path to Python, and a home."""

    def __init__(self, directory: Path, executable: Path, *options: str) -> None:
        super().__init__(directory, *options, twistd=executable)

    def argv(self) -> list[str]:
        path = f"PATH={sys.base_prefix}/bin:/usr/bin:/bin"
        program = [str(self.twistd), f"--port={self.port}", *self.options]
        return ["/usr/bin/env", "-i", path, f"HOME={self.directory}", *program]


def test_the_file_serves_with_an_empty_environment(executable: Path, tmp_path: Path) -> None:
    with Alone(tmp_path, executable, "--demo=1") as server, Subscriber(server.url) as reader:
        publish(server.url, "base", "x")
        assert reader.data(1) == ["x"]
        assert request("GET", f"{server.url}/demo").status == 200


def test_the_file_takes_twistd_s_own_form(executable: Path) -> None:
    assert run(executable, "-n", "--pidfile=", "cyclone-sse", "--version") == f"cyclone-sse {__version__}\n"


def test_its_workers_are_the_same_file(executable: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    broker = ["--broker=redis", f"--redis-port={redis_server.port}", "--workers=2"]
    with Alone(tmp_path, executable, *broker) as server:
        assert request("GET", f"{server.url}/stats").status == 200


def test_the_file_holds_no_test_tools(executable: Path) -> None:
    packages = {name.split("/")[1] for name in zipfile.ZipFile(executable).namelist() if name.count("/") > 1}
    assert {"cyclone_sse", "twisted"} <= packages
    assert not packages & {"pytest", "_pytest", "mypy", "hypothesis", "shiv"}


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_another_python_is_told_in_one_line(executable: Path, version: str) -> None:
    if f"py{version}" == PYTHON:
        pytest.skip("the file is made for this one")
    needed = PYTHON.removeprefix("py")
    name = executable.name
    line = f"{name} needs Python {needed}, and this is {version}: start it with python{needed} {name}\n"
    assert run(python_of(version), executable, "--version", code=1) == line
