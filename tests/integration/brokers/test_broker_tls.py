"""Brokers behind TLS that demand a client's certificate, by URL; and sentinels with a password."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness.certificates import write_certificates
from tests.harness.clients import Subscriber, publish
from tests.harness.process import until
from tests.harness.upstreams import RabbitUpstream, RedisUpstream, Upstream
from tests.integration.conftest import Serve


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on all bytes until one of the two ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_in_front(port: int, files: Path) -> Iterator[int]:
    """A port that speaks TLS with clients that show a certificate of ours, and passes on to this one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "chain.pem", files / "leaf.key")
    context.load_verify_locations(files / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                try:
                    client = context.wrap_socket(plain, server_side=True)
                except OSError:
                    plain.close()
                    continue
                broker = socket.create_connection(("127.0.0.1", port))
                opened.extend((client, broker))
                for pair in ((client, broker), (broker, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()
    for each in opened:
        each.close()


def check(serve: Serve, upstream: Upstream, *options: str) -> None:
    """What is published with a tool of the broker reaches a client."""
    server = serve(*options)
    with Subscriber(server.url, "base") as client:
        upstream.publish("base", "hello")
        assert client.event().data == "hello"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Certificates."""
    return write_certificates(tmp_path)


def shown(files: Path) -> list[str]:
    """The options that trust our root and show our certificate."""
    names = {"ca": "root.pem", "cert": "chain.pem", "key": "leaf.key"}
    return [f"--broker-{option}={files / name}" for option, name in names.items()]


def test_redis_by_url_with_client_certificates(serve: Serve, redis: RedisUpstream, files: Path) -> None:
    with tls_in_front(redis.server.port, files) as port:
        check(serve, redis, "--broker=redis", f"--redis-url=rediss://127.0.0.1:{port}/0", *shown(files))
        stranger = serve("--broker=redis", f"--redis-url=rediss://127.0.0.1:{port}", *shown(files)[:1])
        until(lambda: "Redis at" in stranger.log and "trying" in stranger.log, "the log says so")


def test_rabbitmq_by_url_with_client_certificates(serve: Serve, rabbit: RabbitUpstream, files: Path) -> None:
    with tls_in_front(rabbit.server.port, files) as port:
        url = f"--amqp-url=amqps://guest:guest@127.0.0.1:{port}/"
        check(serve, rabbit, "--broker=amqp", url, *shown(files))


def test_a_url_without_tls(serve: Serve, redis: RedisUpstream) -> None:
    check(serve, redis, "--broker=redis", f"--redis-url=redis://127.0.0.1:{redis.server.port}/0")


def test_the_password_of_a_url_is_not_shown(serve: Serve) -> None:
    server = serve("--broker=redis", "--redis-url=redis://ann:geheim@127.0.0.1:1/0")
    until(lambda: "Redis at 127.0.0.1:1" in server.log, "the log names the server")
    with suppress(AssertionError):
        publish(server.url, "base", "x")
    assert "geheim" not in server.log
