"""What users install by one command, in environments that know nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import ROOT, left_out
from tests.harness.servers import SseServer

pytestmark = pytest.mark.timeout(600)  # pip may have to fetch

OTHER_PYTHONS = ("3.12", "3.13", "3.14")
SECRET = "a secret of the tokens, long enough"


def run(*words: str | Path, code: int = 0, env: Mapping[str, str] | None = None) -> str:
    """Run a command away from the checkout and from the environment of the tests; returns what it prints."""
    removed = ("PYTHONPATH", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if name not in removed}
    done = subprocess.run(
        words,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=inherited | dict(env or {}),
        cwd="/",
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def environment(directory: Path) -> Path:
    """Make a virtual environment; returns its bin directory."""
    venv.create(directory, with_pip=True, symlinks=True)
    return directory / "bin"


def python_of(version: str) -> str:
    """The path of a Python that works: the name alone may be a stub of pyenv."""
    for candidate in (
        f"python{version}",
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ):
        path = shutil.which(candidate)
        if path and not subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode:
            return path
    pytest.skip(f"Python {version} is not on this machine")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, since setuptools writes beside what it builds."""
    copy = tmp_path_factory.mktemp("source") / "cyclone-sse"
    unwanted = (
        ".*",
        "__pycache__",
        "node_modules",
        "build",
        "dist",
        "*.egg-info",
        "dropin.cache",
        "vendored",
    )
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*unwanted))
    return copy


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment after ``pip install .``."""
    programs = environment(tmp_path_factory.mktemp("installed"))
    run(programs / "pip", "install", "--quiet", source)
    return programs


class Command(SseServer):
    """The server, started by a command of one's own: `cyclone-sse`, say."""

    def __init__(self, directory: Path, *options: str, command: list[str | Path]) -> None:
        self.command = command
        super().__init__(directory, *options, twistd=Path(command[0]))

    def argv(self) -> list[str]:
        return [*map(str, self.command), f"--port={self.port}", *self.options]


def assert_serves(server: SseServer) -> None:
    with server, Subscriber(server.url) as subscriber:
        publish(server.url, "base", "[1, 2]")
        assert subscriber.data(1) == ["[1, 2]"]


def test_requirements_are_met(installed: Path) -> None:
    assert run(installed / "pip", "check").splitlines() == ["No broken requirements found."]


def test_twistd_serves_from_any_directory(installed: Path, tmp_path: Path) -> None:
    assert "cyclone-sse" in run(installed / "twistd", "--help")
    with SseServer(tmp_path, "--demo=1", twistd=installed / "twistd") as server:
        with Subscriber(server.url) as subscriber:
            publish(server.url, "base", "[1, 2]")
            assert subscriber.data(1) == ["[1, 2]"]
        assert request("GET", f"{server.url}/demo").status == 200
        script = request("GET", f"{server.url}/media/jquery.sse.js").body
        assert script == (ROOT / "media" / "jquery.sse.js").read_bytes()


def test_the_command_serves_in_the_foreground_without_a_pid_file(installed: Path, tmp_path: Path) -> None:
    server = Command(tmp_path, command=[installed / "cyclone-sse"])
    assert_serves(server)
    assert list(tmp_path.iterdir()) == [server.log_path]


def test_the_module_serves_too(installed: Path, tmp_path: Path) -> None:
    assert_serves(Command(tmp_path, command=[installed / "python", "-m", "cyclone_sse"]))


def test_an_application_of_one_s_own_finds_cyclone(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "extras" / "custom_app.py", tmp_path)
    command: list[str | Path] = [installed / "cyclone-sse", "--app=custom_app.App"]
    with Command(tmp_path, command=command) as server:
        assert request("GET", f"{server.url}/?channels=base").status == 401


def test_commands_publish_and_make_tokens(installed: Path, tmp_path: Path) -> None:
    env = {"CYCLONE_SSE_JWT_SECRET": SECRET, "CYCLONE_SSE_HTTP_SECRET": "key"}
    program = installed / "cyclone-sse"
    token = run(program, "token", "--sub", "42", "--subscribe", "user-42", env=env).strip()
    options = (f"--jwt-secret={SECRET}", "--http-secret=key")
    with Command(tmp_path, *options, command=[program]) as server:
        with Subscriber(server.url, ["user-42"], headers={"Authorization": f"Bearer {token}"}) as subscriber:
            run(program, "publish", f"--url={server.url}", "user-42", "hello", env=env)
            assert subscriber.data(1) == ["hello"]
        refusal = run(program, "publish", f"--url={server.url}", "user-42", "hello", code=1)
        assert len(refusal.splitlines()) == 1
        assert "401" in refusal


def test_check_and_version(installed: Path) -> None:
    assert run(installed / "cyclone-sse", "--version") == "cyclone-sse 2.0.0\n"
    assert "would serve" in run(installed / "cyclone-sse", "check", "--port=0", "--endpoint=tcp:0")
    assert "cyclone-sse token" in run(installed / "cyclone-sse", "--help")


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_uv_installs_it_as_a_tool(source: Path, tmp_path: Path, version: str) -> None:
    directories = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    uv = shutil.which("uv", path=Path(sys.executable).parent) or left_out("uv is not installed")
    run(uv, "tool", "install", "--quiet", f"--python={python_of(version)}", source, env=directories)
    server = Command(tmp_path, command=[tmp_path / "bin" / "cyclone-sse"])
    assert_serves(server)
    assert "Warning" not in server.log


def test_pipx_installs_it(source: Path, tmp_path: Path) -> None:
    directories = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    pipx = shutil.which("pipx", path=Path(sys.executable).parent) or left_out("pipx is not installed")
    run(pipx, "install", f"--python={sys.executable}", source, env=directories)
    assert_serves(Command(tmp_path, command=[tmp_path / "bin" / "cyclone-sse"]))


def test_pip_installs_it_from_git(source: Path, tmp_path: Path) -> None:
    git = ["git", "-C", str(source), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    shutil.rmtree(source / ".git", ignore_errors=True)
    run(*git, "init", "--quiet")
    run(*git, "add", "cyclone_sse", "media", "twisted", "setup.py", "pyproject.toml", "README.md")
    run(*git, "commit", "--quiet", "--message=Everything")
    programs = environment(tmp_path / "bare")
    run(programs / "pip", "install", "--quiet", "--no-deps", f"git+file://{source}")
    answer = run(programs / "twistd", "-n", "cyclone-sse", code=1) if (programs / "twistd").exists() else ""
    assert "Traceback" not in answer
    assert list(programs.parent.glob("lib/*/site-packages/cyclone_sse/vendored/cyclone/web.py"))


def test_a_checkout_is_installed_for_work_on_it(source: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "editable")
    run(programs / "pip", "install", "--quiet", "--editable", source)
    assert_serves(Command(tmp_path, command=[programs / "cyclone-sse"]))
    assert (source / "cyclone_sse" / "vendored" / "cyclone" / "web.py").exists()
