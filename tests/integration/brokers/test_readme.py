"""The README's sections on Redis and RabbitMQ, run as they stand there; only ports come from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration import docs
from tests.integration.brokers.upstreams import RabbitUpstream, RedisUpstream
from tests.integration.clients import Subscriber, publish
from tests.integration.process import ROOT, Process, free_port


def commands(section: str) -> list[str]:
    """The commands of one section."""
    text = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    (body,) = [part for part in text if part.startswith(f"{section}\n")]
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


class Server(Process):
    """A command line that serves."""

    def __init__(self, directory: Path, line: str, env: dict[str, str]) -> None:
        self.port = free_port()
        self.name = f"readme-{self.port}"
        self.line = line.replace("twistd -n", "exec twistd -n --pidfile=")
        super().__init__(directory, env={**env, "CYCLONE_SSE_PORT": str(self.port)}, cwd=ROOT)

    def argv(self) -> list[str]:
        return ["bash", "-c", self.line]

    def is_ready(self) -> bool:
        return "connected to" in self.log_of_this_run

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Shell:
    """Runs what stands in the README."""

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
        subprocess.run(["bash", "-c", line], cwd=ROOT, env=env, check=True, capture_output=True, timeout=30)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(tmp_path, stack)


def test_redis(shell: Shell, redis: RedisUpstream) -> None:
    lines = commands("Redis")
    assert lines[2:] == docs.commands("brokers.md")
    shell.env["CYCLONE_SSE_REDIS_PORT"] = str(redis.server.port)
    for serving, publishing in (lines[:2], lines[2:]):
        server = shell.serve(serving)
        with Subscriber(server.url) as client:
            shell.run(publishing.replace("redis-cli", f"redis-cli -p {redis.server.port}"))
            assert client.event().data == "[1, 2, 3]"


def test_rabbitmq(shell: Shell, rabbit: RabbitUpstream) -> None:
    serving, publishing = commands("RabbitMQ")
    shell.env["CYCLONE_SSE_AMQP_PORT"] = str(rabbit.server.port)
    shell.env["AMQP_URL"] = f"amqp://guest:guest@127.0.0.1:{rabbit.server.port}/%2F"
    server = shell.serve(serving)
    with Subscriber(server.url) as client:
        shell.run(publishing)
        assert client.event().data == "[1, 2, 3]"


def test_several_servers(shell: Shell, redis: RedisUpstream) -> None:
    (serving,) = commands("Several servers, and brokers that fail")
    shell.env["CYCLONE_SSE_REDIS_PORT"] = str(redis.server.port)
    here, there = shell.serve(serving), shell.serve(serving)
    with Subscriber(here.url) as one, Subscriber(there.url) as two:
        publish(here.url, "base", "to all")
        assert one.event().data == two.event().data == "to all"
