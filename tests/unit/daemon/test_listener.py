"""What connections inherit from the socket that listens."""

from __future__ import annotations

import socket

import pytest

from cyclone_sse.daemon.listener import prepare


@pytest.mark.parametrize(("stall_timeout", "expected"), [(60.0, 60_000), (0.5, 500), (0.0, 0)])
def test_connections_send_at_once_and_give_up_a_peer_that_is_silent(
    stall_timeout: float, expected: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        prepare(listening, stall_timeout)
        with socket.create_connection(listening.getsockname()):
            taken = listening.accept()[0]
            with taken:
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected


def test_a_unix_socket_has_no_such_options() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        prepare(listening, 60.0)
