"""The commands of docs/brokers.md, run as they stand there; only ports come from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish
from tests.harness.docs import commands
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, Process, free_port
from tests.harness.upstreams import RabbitUpstream, RedisUpstream


class Server(Process):
    """A command line that serves."""

    def __init__(self, directory: Path, line: str, env: dict[str, str]) -> None:
        self.port = free_port()
        self.name = f"page-{self.port}"
        self.line = line.replace("twistd -n", "exec twistd -n --pidfile=")
        super().__init__(directory, env={**env, "CYCLONE_SSE_PORT": str(self.port)}, cwd=ROOT)

    def argv(self) -> list[str]:
        return ["bash", "-c", self.line]

    def is_ready(self) -> bool:
        return "cyclone-sse serves http" in self.log_of_this_run

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Shell:
    """Runs what stands on the page."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        programs = Path(sys.executable).parent
        self.env = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def serve(self, line: str) -> Server:
        """Start a server."""
        return self.stack.enter_context(Server(self.directory, line, self.env))

    def run(self, line: str) -> None:
        """Run a command that ends."""
        env = os.environ | self.env
        subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=env, check=True, capture_output=True, timeout=PATIENCE
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(tmp_path, stack)


def only(*words: str) -> list[str]:
    """For each of these the one command of the page in which it stands."""
    found = [[line for line in commands("brokers.md") if line.endswith(word)] for word in words]
    return [line for (line,) in found]


def test_redis(shell: Shell, redis: RedisUpstream) -> None:
    serving, publishing = only("--broker=redis", "publish base '[1, 2, 3]'")
    shell.env["CYCLONE_SSE_REDIS_PORT"] = str(redis.server.port)
    server = shell.serve(serving)
    with Subscriber(server.url) as client:
        shell.run(publishing.replace("redis-cli", f"redis-cli -p {redis.server.port}"))
        assert client.event().data == "[1, 2, 3]"


def test_redis_stream(shell: Shell, redis: RedisUpstream) -> None:
    serving, publishing = only("--broker=redis-stream", "message '[1, 2, 3]'")
    shell.env["CYCLONE_SSE_REDIS_PORT"] = str(redis.server.port)
    server = shell.serve(serving)
    with Subscriber(server.url) as client:
        shell.run(publishing.replace("redis-cli", f"redis-cli -p {redis.server.port}"))
        assert client.event().data == "[1, 2, 3]"


def test_rabbitmq(shell: Shell, rabbit: RabbitUpstream) -> None:
    serving, publishing = only("--broker=amqp", "extras/pub.py base '[1, 2, 3]'")
    shell.env["CYCLONE_SSE_AMQP_PORT"] = str(rabbit.server.port)
    shell.env["AMQP_URL"] = f"amqp://guest:guest@127.0.0.1:{rabbit.server.port}/%2F"
    server = shell.serve(serving)
    with Subscriber(server.url) as client:
        shell.run(publishing)
        assert client.event().data == "[1, 2, 3]"


def test_several_servers(shell: Shell, redis: RedisUpstream) -> None:
    (serving,) = only("--http-publish=1")
    shell.env["CYCLONE_SSE_REDIS_PORT"] = str(redis.server.port)
    here, there = shell.serve(serving), shell.serve(serving)
    with Subscriber(here.url) as one, Subscriber(there.url) as two:
        publish(here.url, "base", "to all")
        assert one.event().data == two.event().data == "to all"


def test_the_page_has_no_other_commands() -> None:
    assert len(commands("brokers.md")) == 7
