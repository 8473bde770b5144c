"""Fixtures that hand out real servers, and stop them when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import evidence
from tests.harness.clients import close_opened
from tests.harness.servers import Carbon, Nginx, RabbitServer, RedisServer, SseServer

Serve = Callable[..., SseServer]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the processes and pages of the test tell."""
    report = yield
    if report.failed:
        report.sections += evidence.collect()
    return report


@pytest.fixture(autouse=True)
def close_subscribers() -> Iterator[None]:
    """Close the subscribers that a test has left open."""
    yield
    close_opened()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that starts a daemon: `serve("--broker=redis", f"--redis-port={port}", env={...})`.

    At the end of the test each is stopped, must end cleanly, and must have logged no traceback.
    """
    with ExitStack() as started:

        def start(*options: str, **how: object) -> SseServer:
            return started.enter_context(SseServer(tmp_path, *options, **how))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def server(serve: Serve) -> SseServer:
    """A daemon with the default options."""
    return serve()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone, to be killed and restarted at will."""
    with RedisServer(tmp_path) as redis:
        yield redis


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One RabbitMQ, since it takes seconds to start; a test that stops it starts it again."""
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq")) as rabbit:
        yield rabbit


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[str], Nginx]]:
    """A function that starts an nginx with the `http` block given, `{port}` standing for its port."""
    with ExitStack() as started:
        yield lambda http: started.enter_context(Nginx(tmp_path, http))


@pytest.fixture
def carbon(tmp_path: Path) -> Iterator[Carbon]:
    """A carbon with its UDP listener on."""
    with Carbon(tmp_path) as running:
        yield running
