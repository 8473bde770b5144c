"""Where the daemon serves: UNIX sockets, IPv6, systemd's socket, several at once, ports that are shared."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import accepts, free_port, need, until
from tests.harness.servers import RedisServer, SseServer
from tests.integration.conftest import Serve


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def test_a_unix_socket_beside_ipv6(serve: Serve, tmp_path: Path) -> None:
    path, port = tmp_path / "sse.sock", free_port()
    server = serve(f"--endpoint=unix:{path}:mode=600", f"--endpoint=tcp:{port}:interface=\\:\\:1")
    assert not accepts(server.port), "endpoints take the place of the port"
    with Subscriber(f"http://[::1]:{port}") as reader:
        connection = UnixConnection(path)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/publish", "channel=base&message=x", form)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status": "ok"}')
        connection.close()
        assert reader.data(1) == ["x"]
    server.stop()
    assert not path.exists(), "the file goes with the server"


def test_a_unix_socket_that_a_killed_server_left_is_no_obstacle(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "sse.sock"
    server = serve(f"--endpoint=unix:{path}")
    server.kill()
    assert path.exists()
    server.start()
    assert f"http://unix:{path}:/" in server.log_of_this_run


@pytest.mark.parametrize("listen", ["::1", "[::1]", "localhost"])
def test_listen_means_what_people_mean(serve: Serve, listen: str) -> None:
    server = serve(f"--listen={listen}")
    host = "localhost" if listen == "localhost" else "[::1]"
    assert request("GET", f"http://{host}:{server.port}/stats").status == 200


def test_no_plain_port_beside_an_endpoint(serve: Serve) -> None:
    port = free_port()
    server = serve("--port=0", f"--endpoint=tcp:{port}:interface=127.0.0.1")
    assert request("GET", f"http://127.0.0.1:{port}/stats").status == 200
    assert "serves http" in server.log


def test_two_servers_share_a_port(tmp_path: Path) -> None:
    first = SseServer(tmp_path, "--reuse-port=1")
    second = SseServer(tmp_path, "--reuse-port=1", f"--port={first.port}")
    with first:
        with second:
            assert request("GET", f"{first.url}/stats").status == 200
        for _ in range(5):
            assert request("GET", f"{first.url}/stats").status == 200, "the first serves alone now"


class Activated(SseServer):
    """A daemon that gets its port from systemd, and is started with the first connection."""

    def argv(self) -> list[str]:
        command = super().argv()
        plugin = command.index("cyclone-sse")
        endpoint = "--endpoint=systemd:domain=INET:index=0"
        activate = [need("systemd-socket-activate"), f"--listen=127.0.0.1:{self.port}"]
        return [*activate, f"--setenv=PYTHONPATH={self.env['PYTHONPATH']}", *command[: plugin + 1], endpoint]

    def is_ready(self) -> bool:
        return "Listening on" in self.log_of_this_run


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    """A daemon behind systemd's socket."""
    with Activated(tmp_path) as server:
        yield server


def test_systemd_s_socket(activated: Activated) -> None:
    with Subscriber(activated.url) as reader:
        publish(activated.url, "base", "x")
        assert reader.data(1) == ["x"]
    assert f"serves {activated.url}/" in activated.log


def test_a_restart_behind_a_kept_socket_refuses_no_connection(tmp_path: Path) -> None:
    """What systemd does: it has the socket, and starts the server again when that has ended."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as kept:
        port = kept.getsockname()[1]
        stop = threading.Event()
        answers: list[int | str] = []
        told: set[int | str] = set()

        def ask() -> None:
            while not stop.is_set():
                try:
                    answers.append(request("GET", f"http://127.0.0.1:{port}/stats").status)
                except (ConnectionResetError, http.client.RemoteDisconnected):
                    answers.append("ended")  # it was let in and the server stopped
                except OSError as error:
                    answers.append(repr(error))

        asking = threading.Thread(target=ask, daemon=True)
        with Inheriting(tmp_path, kept) as server:
            asking.start()
            try:
                until(lambda: 200 in answers, "an answer")
                for _ in range(2):
                    server.stop()
                    answers.clear()
                    server.start()
                    until(lambda: 200 in answers, "an answer after the restart")
                    told |= set(answers)
            finally:
                stop.set()
                asking.join()
    assert told <= {200, "ended"}


class Inheriting(SseServer):
    """A daemon that inherits a listening socket as from systemd: descriptor 3, announced in LISTEN_FDS."""

    def __init__(self, directory: Path, kept: socket.socket) -> None:
        super().__init__(directory)
        self.kept = kept

    def argv(self) -> list[str]:
        command = super().argv()[:-2]
        words = " ".join([*command, "--endpoint=systemd:domain=INET:index=0"])
        self.pass_fds = (self.kept.fileno(),)
        return ["/bin/bash", "-c", f"exec 3<&{self.kept.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec {words}"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_health_check_of_a_balancer_has_the_balancer_s_address(
    serve: Serve, redis_server: RedisServer, workers: int
) -> None:
    port = free_port()
    shared = ["--workers=2", "--broker=redis", f"--redis-port={redis_server.port}"]
    crew = shared if workers > 1 else []
    server = serve(f"--endpoint=haproxy:tcp:{port}:interface=127.0.0.1", "--max-clients-per-ip=1", *crew)
    for header in (
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 1234 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(header + b"GET /stats HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(12)[-3:] == b"200"
    server.stop()


def test_behind_a_balancer_that_speaks_the_proxy_protocol(serve: Serve) -> None:
    port, admin = free_port(), free_port()
    server = serve(
        f"--endpoint=haproxy:tcp:{port}:interface=127.0.0.1",
        "--max-clients-per-ip=1",
        f"--admin-port={admin}",
    )
    statuses = []
    clients = []
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        clients.append(client)
        client.sendall(f"PROXY TCP4 {address} 192.0.2.9 1234 80\r\n".encode())
        client.sendall(b"GET /?channels=base HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses.append(client.recv(12)[-3:])
    assert statuses == [b"200", b"429", b"200"], "each address has its own limit"
    found = request("GET", f"http://127.0.0.1:{admin}/connections?channel=base").json["streams"]
    assert {each["address"] for each in found} == {"192.0.2.1", "192.0.2.2"}
    for client in clients:
        client.close()
    server.stop()
