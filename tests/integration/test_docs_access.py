"""What docs/publishing.md and docs/access.md show: commands, run as they stand there and code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.docs import commands, shown, write_shown
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, Process, free_port, need
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve

PUBLISHING = commands("publishing.md")
JQUERY = commands("jquery.md")
SERVING = commands("access.md")


def run(command: str, server: SseServer) -> bytes:
    """Run a command for port 8888 against this server; gives what it prints."""
    need("curl")
    line = command.replace("localhost:8888", f"localhost:{server.port}")
    assert line != command, f"this is no command for the server: {command}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=PATIENCE)
    return done.stdout


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, SseServer]]:
    """A server that wants a key, and one that does not."""
    with ExitStack() as stack:
        yield {
            wanted: stack.enter_context(
                SseServer(tmp_path_factory.mktemp("server"), *(["--http-secret=KEY"] if wanted else []))
            )
            for wanted in (True, False)
        }


@pytest.mark.parametrize("command", JQUERY)
def test_the_command_for_the_pages_with_jquery(servers: dict[bool, SseServer], command: str) -> None:
    with Subscriber(servers[False].url, ["chat"]) as client:
        run(command.replace("127.0.0.1:", "localhost:"), servers[False])
        assert client.data(1) == ['["joined", "Ann"]']


@pytest.mark.parametrize("command", PUBLISHING)
def test_each_command_that_publishes(servers: dict[bool, SseServer], command: str) -> None:
    wants_key = "KEY" in command
    server = servers[wants_key]
    with Subscriber(server.url, ["a", "b", "base", "news"]) as client:
        answer = json.loads(run(command, server))
        assert answer["status"] == "ok"
        if "disconnect" in command:
            assert answer == {"status": "ok", "streams": 0}
            return
        if "json" in command:
            assert answer["subscribers"] == 1
        count = len(answer.get("ids", [0]))
        assert count == (2 if '"a"' in command else 1)
        events = client.events(count)
        assert {event.type for event in events} == {"greeting" if "greeting" in command else "message"}
    if wants_key:
        assert b'"error"' in run(command.replace("KEY", "another"), server)


def test_the_page_tells_all_of_them() -> None:
    assert len(PUBLISHING) == 9
    assert len(SERVING) == 4


CALLS = {
    "js": ("node", "push.mjs", "import {push} from './push.mjs'; console.log(await push('base', {a: 'ü'}));"),
    "ruby": ("ruby", "push.rb", "require_relative 'push'; puts push('base', {a: 'ü'})"),
}


@pytest.mark.parametrize(
    "kind", ["js", pytest.param("ruby", marks=pytest.mark.skipif(not which("ruby"), reason="no Ruby"))]
)
def test_a_function_that_publishes(servers: dict[bool, SseServer], tmp_path: Path, kind: str) -> None:
    program, name, call = CALLS[kind]
    write_shown("publishing.md", name, tmp_path, kind)
    script = (tmp_path / "call").with_suffix(Path(name).suffix)
    script.write_text(call)

    def push(url: str, key: str) -> tuple[str, str]:
        words = [need(program), script.name]
        env = {**os.environ, "PUSH_URL": url, "PUSH_KEY": key}
        done = subprocess.run(
            words, check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.stdout, done.stderr

    url = servers[True].url
    with Subscriber(url, ["base"]) as client:
        assert push(url, "KEY") == ("true\n", "")
        assert client.data(1) == ['{"a":"ü"}']
    said, why = push(url, "another")
    assert (said, "wrong key" in why) == ("false\n", True)
    said, why = push("http://127.0.0.1:1", "KEY")
    assert (said, "not published: " in why) == ("false\n", True)


class Shell(Process):
    """A command of the page that serves, on another port."""

    def __init__(self, directory: Path, command: str) -> None:
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{free_port()}")  # another may serve there
        self.command = command.replace("twistd -n", "exec twistd -n --pidfile=")
        self.port = free_port()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {"CYCLONE_SSE_PORT": str(self.port), "PYTHONPATH": str(ROOT), "PATH": path}
        super().__init__(directory, env=env, cwd=directory)

    def argv(self) -> list[str]:
        return ["bash", "-c", self.command]

    def is_ready(self) -> bool:
        return "cyclone-sse serves http" in self.log_of_this_run


@pytest.mark.parametrize("command", SERVING)
def test_each_command_that_serves(tmp_path: Path, command: str) -> None:
    need("openssl")
    with Shell(tmp_path, command) as serving:
        answer = request("GET", f"http://127.0.0.1:{serving.port}/?channels=user-42")
        assert answer.status == (503 if "--auth-url" in command else 401)


def test_the_application_of_one_s_own(serve: Serve, tmp_path: Path) -> None:
    write_shown("access.md", "custom.py", tmp_path)
    server = serve("-r", "custom.App")
    assert request("GET", f"{server.url}/?channels=base").status == 401
    with Subscriber(server.url, headers={"Cookie": "member=yes"}) as client:
        publish(server.url, "base", "hello")
        assert client.data(1) == ["hello"]


@pytest.mark.parametrize(
    ("user", "asked", "answer"),
    [
        (None, ["user-42"], ("", 401)),
        (42, ["user-43"], ("", 403)),
        (42, ["user-42", "user-43"], ("", 403)),
        (42, ["user-42"], {"user": "42", "expires": 3600}),
    ],
)
def test_the_view_of_flask(user: int | None, asked: list[str], answer: object) -> None:
    """Flask itself takes no part: three names of it do."""

    class Args:
        def getlist(self, name: str) -> list[str]:
            return asked if name == "channels" else []

    class Fake:
        args = Args()

        def get(self, path: str) -> object:
            return lambda view: view

    names: dict[str, object] = {"app": Fake(), "request": Fake(), "session": {"user": user} if user else {}}
    exec(shown("access.md", "flask_app.py", "python"), names)
    view = names["may_hear"]
    assert callable(view)
    assert view() == answer
