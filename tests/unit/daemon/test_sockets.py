"""From the options to sockets that are bound."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyclone_sse.daemon.sockets import (
    HTTP,
    HTTPS,
    PROXIED,
    AddressInUse,
    Bound,
    bind,
    duplicate,
    open_sockets,
    refuse_same_ports,
)
from cyclone_sse.options import with_defaults
from tests.harness.ports import free_port


@pytest.fixture
def made() -> Iterator[list[Bound]]:
    """What a test has opened; closed at its end."""
    bound: list[Bound] = []
    yield bound
    for each in bound:
        each.unlink()
        each.socket.close()


def opened(made: list[Bound], **settings: Any) -> list[Bound]:
    """The sockets of these options."""
    given = {name.replace("_", "-"): value for name, value in settings.items()}
    made += (bound := open_sockets(with_defaults(given), None, None))
    return bound


def test_the_plain_port_alone_by_default(made: list[Bound]) -> None:
    port = free_port()
    (one,) = opened(made, port=port)
    assert (one.serves, one.url) == (HTTP, f"http://127.0.0.1:{port}/")


def test_port_0_leaves_tls_alone(made: list[Bound]) -> None:
    port = free_port()
    (one,) = opened(made, port=0, use_ssl=True, ssl_port=port)
    assert (one.serves, one.url) == (HTTPS, f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_with_and_without_brackets(made: list[Bound], host: str) -> None:
    port = free_port()
    (one,) = opened(made, port=port, listen=host)
    assert one.url == f"http://[::1]:{port}/"


def test_localhost_is_all_that_it_names(made: list[Bound]) -> None:
    port = free_port()
    named = {info[4][0] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    assert {each.socket.getsockname()[0] for each in opened(made, port=port, listen="localhost")} == named


def test_a_socket_of_a_balancer_is_known_by_its_purpose(made: list[Bound]) -> None:
    """Workers are passed the purpose, not the endpoint's factory."""
    endpoints = [f"haproxy:tcp:{free_port()}", f"tcp:{free_port()}"]
    found = opened(made, port=0, endpoint=endpoints)
    assert [(each.serves, each.factory) for each in found] == [(PROXIED, None), (HTTP, None)]


def test_endpoints_take_the_place_of_the_port(made: list[Bound], tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "sse.sock"
    unix, tcp = opened(made, endpoint=(f"unix:{path}:mode=600", f"tcp:{port}:interface=\\:\\:1"))
    assert unix.url == f"http://unix:{path}:/"
    assert path.stat().st_mode & 0o777 == 0o600
    assert tcp.url == f"http://[::1]:{port}/"


def test_a_dead_server_s_socket_is_replaced_and_a_living_one_s_is_not(
    made: list[Bound], tmp_path: Path
) -> None:
    path = tmp_path / "sse.sock"
    (dead,) = opened(made, endpoint=(f"unix:{path}",))
    dead.socket.close()
    made.clear()
    (living,) = opened(made, endpoint=(f"unix:{path}",))
    living.socket.listen()
    with pytest.raises(ValueError, match="in use"):
        opened(made, endpoint=(f"unix:{path}",))
    os.unlink(path)
    (newer,) = opened(made, endpoint=(f"unix:{path}",))
    living.unlink()
    assert path.exists(), "it is the newer one's"
    newer.unlink()
    assert not path.exists()


def test_a_file_is_never_removed(made: list[Bound], tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(ValueError, match="in use"):
        opened(made, endpoint=(f"unix:{path}",))
    assert path.read_text() == "x"


@pytest.mark.parametrize(
    "description",
    [
        "unix",
        "tcp:x",
        "nonsense:1",
        "systemd:domain=INET:index=0",
        "ssl:443",
        "unix:/no/where",
        "",
        "tcp:65536",
    ],
)
def test_what_is_no_endpoint_is_one_line(made: list[Bound], description: str) -> None:
    with pytest.raises(ValueError, match=r"^--endpoint=[^\n]*: [^\n]+$"):
        opened(made, endpoint=(description,))


def test_a_port_in_use_is_one_line_and_leaves_nothing_open(made: list[Bound]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        free = free_port()
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{taken}: Address already in use"):
            opened(made, port=free, use_ssl=True, ssl_port=taken)
    opened(made, port=free)[0].socket.listen()


@pytest.mark.parametrize("host", ["*", "[]", ""])
def test_a_host_that_means_all_addresses_only_elsewhere_is_one_line(host: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot listen on [^ ]*:80: write 0\.0\.0\.0, or :: "):
        bind(host, 80)


def test_a_host_that_is_none_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"cannot listen on no\.such\.host\.invalid:80: "):
        bind("no.such.host.invalid", 80)


def test_ports_can_be_shared(made: list[Bound]) -> None:
    port = free_port()
    for _ in range(2):
        (one,) = opened(made, port=port, reuse_port=True)
        one.socket.listen()


def test_a_second_start_with_workers_finds_the_first(made: list[Bound]) -> None:
    """Both would share the port by SO_REUSEPORT, and each get half of the connections."""
    settings = with_defaults({"port": free_port()})
    made += (first := open_sockets(settings, None, None, share=True))
    first[0].socket.listen()
    with pytest.raises(AddressInUse, match="in use"):
        open_sockets(settings, None, None, share=True)
    made += open_sockets({**settings, "reuse-port": True}, None, None, share=True)


def test_an_address_in_use_is_told_from_one_that_cannot_be_had(made: list[Bound], tmp_path: Path) -> None:
    (living,) = opened(made, endpoint=(f"unix:{tmp_path / 'sse.sock'}",))
    living.socket.listen()
    with pytest.raises(AddressInUse):
        opened(made, endpoint=(f"unix:{tmp_path / 'sse.sock'}",))
    with pytest.raises(ValueError, match="cannot listen") as error:
        bind("192.0.2.1", 80)
    assert not isinstance(error.value, AddressInUse)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_of_a_unix_socket_belongs_to_the_user_that_serves(made: list[Bound], tmp_path: Path) -> None:
    path = tmp_path / "sse.sock"
    settings = with_defaults({"endpoint": (f"unix:{path}:mode=660",)})
    made += open_sockets(settings, None, None, owner=(65534, 65533))
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65533, 0o660)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_admin_port_of_a_worker_is_no_port_for_clients(made: list[Bound], host: str) -> None:
    port = free_port()
    first = opened(made, port=port, listen=host, admin_port=port - 1, reuse_port=True)
    second = [duplicate(each, 1) for each in first]
    made += second
    refuse_same_ports(first)
    with pytest.raises(
        ValueError, match=rf"each worker has an admin port: http://127.0.0.1:{port}/ is also "
    ):
        refuse_same_ports([*first, *second])
