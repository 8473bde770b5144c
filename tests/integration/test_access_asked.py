"""The request to the application: what it carries, what it may cost, and clients that leave meanwhile."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cyclone_sse.access.http_client import ANSWER_TIMEOUT
from tests.harness.asked import AskedApplication, Question, Reply
from tests.harness.certificates import certify, write_certificates
from tests.harness.clients import Subscriber, request, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import connections, until
from tests.harness.servers import SseServer
from tests.harness.twistd import run_plugin
from tests.integration.conftest import Serve

POLL = {"X-Requested-With": "XMLHttpRequest"}


def subscribe(server: SseServer, channel: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client = Subscriber(server.url, channel, headers=named).wait_open()
    client.close()
    return client.status


def test_what_the_application_is_told(serve: Serve) -> None:
    with AskedApplication(lambda _: Reply(204)) as application:
        server = serve(f"--auth-url={application.url}", "--trust-proxy=127.0.0.0/8,10.0.0.0/8")
        subscribe(server, "a", User_Agent="Mozilla/5.0", Cookie="a=b", Origin="https://x.example")
        subscribe(
            server,
            "a",
            X_Forwarded_For="6.6.6.6, 192.0.2.1:4711, 10.0.0.2",
            X_Forwarded_Host="www.example",
            X_Forwarded_Proto="https",
        )
        plain, proxied = (question.headers for question in application.questions)
        assert plain["User-Agent"] == "Mozilla/5.0"
        assert plain["X-Forwarded-Host"] == f"127.0.0.1:{server.port}"
        assert plain["X-Forwarded-Proto"] == "http"
        assert plain["X-Forwarded-For"] == "127.0.0.1"
        assert plain["Host"] == application.url.split("/")[2]
        assert proxied["X-Forwarded-Host"] == "www.example"
        assert proxied["X-Forwarded-Proto"] == "https"
        assert proxied["X-Forwarded-For"] == "192.0.2.1"


def test_an_application_on_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    with AskedApplication(lambda _: Reply(204), socket=tmp_path / "app.sock") as application:
        server = serve(f"--auth-url={application.url}", "--auth-host=www.example")
        assert subscribe(server, "a") == 200
        assert application.questions[0].headers["Host"] == "www.example"
    server = serve(f"--auth-url=unix:{tmp_path}/missing.sock")
    assert request("GET", f"{server.url}/?channels=a").status == 503
    assert "cannot be reached" in server.log


def test_the_certificate_of_https_is_checked(serve: Serve, tmp_path: Path) -> None:
    files = write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "chain.pem", files / "leaf.key")
    with AskedApplication(lambda _: Reply(204), tls=context) as application:
        option = f"--auth-url={application.url}"
        trusting = serve(option, env={"SSL_CERT_FILE": str(files / "root.pem")})
        assert [subscribe(trusting, "a") for _ in range(3)] == [200] * 3
        assert application.connections == 1
        strict = serve(option)
        assert subscribe(strict, "a") == 503
        assert "certificate verify failed" in strict.log


def test_a_trusted_certificate_without_names_is_for_no_host(serve: Serve, tmp_path: Path) -> None:
    certificate, key = certify("127.0.0.1", None, authority=False, has_names=False)
    file = tmp_path / "own.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with AskedApplication(lambda _: Reply(204), tls=context) as application:
        option = f"--auth-url={application.url}"
        server = serve(option, env={"SSL_CERT_FILE": str(file)})
        assert [subscribe(server, "a") for _ in range(2)] == [503] * 2
        assert server.log.count("its certificate has no valid subjectAltName") == 1
        check = run_plugin(tmp_path, option, "--check=1", SSL_CERT_FILE=str(file))
        assert (check.returncode, check.stderr.count("\n")) == (1, 1)
        assert "--auth-url: the application at --auth-url cannot be reached: its certificate" in check.stderr


@pytest.mark.parametrize("headers", [{}, POLL])
def test_a_client_that_leaves_is_not_asked_about(serve: Serve, headers: dict[str, str]) -> None:
    release = threading.Event()

    def hang(_: Question) -> Reply:
        release.wait(PATIENCE)
        return Reply(204)

    with AskedApplication(hang) as application:
        server = serve(f"--auth-url={application.url}", "--auth-concurrency=1")
        began = time.monotonic()
        with closing(Subscriber(server.url, "first")):
            until(lambda: application.questions, "the first question")
            waiting = [Subscriber(server.url, f"gone-{n}", headers=headers) for n in range(5)]
            with closing(Subscriber(server.url, "last")) as last:
                until(lambda: connections(server.pid, server.port) == 7, "all clients")
                for client in waiting:
                    client.close()
                until(lambda: connections(server.pid, server.port) == 2, "their end")
                release.set()
                if time.monotonic() - began > ANSWER_TIMEOUT:
                    return  # the first question was given up meanwhile, and the next was asked
                assert last.wait_open().status == 200
                asked = {channel for question in application.questions for channel in question.channels}
                assert asked <= {"first", "last"}
                assert set(stats(server.url)) <= {"first", "last"}


PIECES = {
    "headers": b"X-Header: of an answer without end\r\n" * 1000,
    "interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,
    "body": b"x" * 65536,
}


@contextmanager
def endless(start: bytes, piece: bytes) -> Iterator[str]:
    """A server that never stops answering."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(start)
                    while True:
                        connection.sendall(piece)
                except OSError:
                    pass

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=flood, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@pytest.mark.parametrize("kind", PIECES)
def test_an_answer_without_end_costs_little(serve: Serve, kind: str) -> None:
    """Endless headers took 600 MB, and endless interim answers 7 MB of log."""
    start = b"" if kind == "interim answers" else b"HTTP/1.1 200 OK\r\n"
    with endless(start + (b"\r\n" if kind == "body" else b""), PIECES[kind]) as url:
        server = serve(f"--auth-url={url}")
        before = server.memory()
        for _ in range(3):
            assert request("GET", f"{server.url}/?channels=a").status == 503
        assert server.memory() - before < 20 * 2**20
        assert len(server.log) < 20_000
        assert "its answer is longer than 65536 bytes" in server.log
