"""Every command of README.md and of some pages, run as it stands there, in a copy of what git holds.

It has a fresh environment. test_docs.py names the tests that run the commands of other pages.

What must differ on a busy machine comes from outside the command: ports by the environment, or in place
of 8888.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.docs import commands, write_shown
from tests.harness.process import ROOT, Process, free_port

pytestmark = pytest.mark.timeout(600)  # pip may have to fetch

PAGES = ("README.md", "CONTRIBUTING.md", "capacity.md", "extending.md", "options.md")
COMMANDS = [line for page in PAGES for line in commands(page)]
# Run by the tests below, and by test_packaging.py.
ELSEWHERE = ("make ", "git ", "twine ", "uv ", "pipx ")


class Shell(Process):
    """A command line that serves until it is stopped, run in the copy's root."""

    def __init__(self, directory: Path, home: Home, line: str) -> None:
        self.line = line
        self.port = free_port()
        self.name = f"readme-{self.port}"
        super().__init__(directory, env=home.env | self.ports(), cwd=home.root)

    def ports(self) -> dict[str, str]:
        return {"PORT": str(self.port), "CYCLONE_SSE_PORT": str(self.port)}

    def argv(self) -> list[str]:
        return ["bash", "-c", self.line.replace("twistd -n", "exec twistd -n --pidfile=")]

    def is_ready(self) -> bool:
        return "cyclone-sse serves http" in self.log_of_this_run

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Home:
    """A home directory: a copy of the project, and the environment that the README's first command makes."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "cyclone-sse"
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for name in names:
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        programs = directory / ".venvs" / "cyclone-sse" / "bin"
        self.env = os.environ | {
            "HOME": str(directory),
            # Without this, nothing that pip has fetched before is used.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            # as after `activate`; then the Python of these tests, which makes the environment
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "",
            "MAKEFLAGS": "",
        }

    def run(self, line: str, port: int | None = None) -> str:
        """Run a command that ends; returns what it prints. `port` takes the place of 8888."""
        if port is not None:
            line = line.replace("8888", str(port))
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.root, env=self.env, check=False, capture_output=True, text=True
        )
        printed: str = done.stdout
        assert done.returncode == 0, f"{line}\n{printed}{done.stderr}"
        return printed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    fresh = Home(tmp_path_factory.mktemp("home"))
    fresh.run(only("bin/pip install ."))
    return fresh


Serve = Callable[..., Shell]


@pytest.fixture
def shell(tmp_path: Path, home: Home) -> Iterator[Serve]:
    """A function that starts a command of a page that serves."""
    with ExitStack() as started:

        def start(line: str, app: str = "") -> Shell:
            assert line in COMMANDS, f"no page says: {line}"
            line = line.replace("custom_app.App", app or "custom_app.App")
            return started.enter_context(Shell(tmp_path, home, line))

        yield start


def only(words: str) -> str:
    """The one command of these pages in which these words stand."""
    (line,) = [line for line in COMMANDS if words in line]
    return line


def test_make_run_serves_and_says_how_to_use_it(shell: Serve, home: Home) -> None:
    serving = shell("make run")
    (subscribe,) = re.findall(r"curl -N '([^']+)'", serving.log)
    (publishing,) = re.findall(r"curl -X POST .*", serving.log)
    assert subscribe.startswith(f"{serving.url}/")
    with Subscriber(serving.url) as subscriber:
        home.run(publishing)
        assert subscriber.data(1) == ["[123, 124]"]
    assert request("GET", f"{serving.url}/demo").status == 200


def test_make_run_takes_options(shell: Serve) -> None:
    serving = shell(only("make run ARGS="))
    with Subscriber(serving.url) as subscriber:
        assert subscriber.wait_comment() == " sse ping".strip()
    assert "127.0.0.1 subscribes to" in serving.log


def test_check_that_everything_works(shell: Serve, home: Home) -> None:
    serving = shell("cyclone-sse")
    subscribing = only("curl -N").replace("8888", str(serving.port))
    with subprocess.Popen(["bash", "-c", f"exec {subscribing}"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        try:
            assert [curl.stdout.readline() for _ in range(2)] == [b"\n", b"\n"]
            assert home.run(only("message=%5B123"), serving.port) == '{"status": "ok"}'
            assert curl.stdout.readline().startswith(b"id: ")
            assert curl.stdout.readline() == b"data: [123, 124]\n"
            assert home.run(only("/stats"), serving.port) == '[["base", 1]]'
        finally:
            curl.kill()


def test_the_first_block_serves_the_demo(shell: Serve) -> None:
    serving = shell(only("--demo=1"))
    assert request("GET", f"{serving.url}/demo").status == 200


def test_publish_as_form_and_as_json(shell: Serve, home: Home) -> None:
    serving = shell("cyclone-sse")
    with Subscriber(serving.url, ["news", "base"]) as subscriber:
        home.run(only("--data-urlencode"), serving.port)
        home.run(only("application/json"), serving.port)
        assert subscriber.data(2) == ['{"title": "Hello"}', "Hello"]


def test_help_lists_the_options(home: Home) -> None:
    listed = home.run(only("cyclone-sse --help"))
    for line in (ROOT / "cyclone-sse.conf").read_text().splitlines():
        assert f"{line.partition('=')[0]}=" in listed


def test_configuration_file(shell: Serve, home: Home) -> None:
    conf = home.root / "cyclone-sse.conf"
    text = conf.read_text()
    port = free_port()
    try:
        conf.write_text(text.replace("--port=8888", f"--port={port}", 1))
        shell(only("$(cat cyclone-sse.conf)"))
        with Subscriber(f"http://127.0.0.1:{port}") as subscriber:
            publish(f"http://127.0.0.1:{port}", "base", "1")
            assert subscriber.data(1) == ["1"]
    finally:
        conf.write_text(text)


def test_custom_application(shell: Serve) -> None:
    serving = shell(only("custom_app.App"))
    assert request("GET", f"{serving.url}/?channels=base").status == 401
    with Subscriber(serving.url, headers={"Cookie": "member=yes"}) as subscriber:
        publish(serving.url, "base", "1")
        assert subscriber.data(1) == ["1"]


def test_the_broker_of_one_s_own(shell: Serve, home: Home) -> None:
    write_shown("extending.md", "udp_app.py", home.root / "extras")
    serving = shell(only("custom_app.App"), "udp_app.App")
    with Subscriber(serving.url) as subscriber, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"base hello", ("127.0.0.1", serving.port))
        assert subscriber.data(1) == ["hello"]


def test_load_client(shell: Serve, home: Home) -> None:
    serving = shell("cyclone-sse")
    assert "1000" in home.run(only("extras/client.py"), serving.port).replace(",", "")


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_targets_exist(home: Home, line: str) -> None:
    home.run(line.replace("make", "make -n", 1))
