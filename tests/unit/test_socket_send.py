"""Which transports let bytes leave at once."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import BufferingTLSTransport

from cyclone_sse.socket_send import socket_send
from tests.unit.fakes import FakeSocket


def test_a_socket_takes_bytes_at_once_and_says_how_many() -> None:
    socket = FakeSocket(room=2)
    send = socket_send(socket)
    assert send is not None
    assert send(b"abc") == 2
    with pytest.raises(BlockingIOError):
        send(b"c")


def test_a_transport_without_a_socket_has_no_such_way() -> None:
    class Wrapper:  # as around TLS: unknown attributes are those of the socket below
        def __getattr__(self, name: str) -> Any:
            return getattr(FakeSocket(), name)

    assert socket_send(cast(Any, StringTransport())) is None
    assert socket_send(Wrapper()) is None
    # It has a getHandle too: that of OpenSSL, in which the bytes would stay.
    assert socket_send(BufferingTLSTransport.__new__(BufferingTLSTransport)) is None
