"""Which transports let bytes leave at once."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import BufferingTLSTransport

from cyclone_sse.direct_socket import direct_socket
from tests.unit.fakes import FakeSocket


def test_a_socket_takes_bytes_at_once_and_says_how_many() -> None:
    socket = direct_socket(FakeSocket(room=2))
    assert socket is not None
    assert socket.send(b"abc") == 2
    with pytest.raises(BlockingIOError):
        socket.send(b"c")


def test_a_transport_without_a_socket_has_no_such_way() -> None:
    class Wrapper:  # as around TLS: unknown attributes are those of the socket below
        def __getattr__(self, name: str) -> Any:
            return getattr(FakeSocket(), name)

    assert direct_socket(cast(Any, StringTransport())) is None
    assert direct_socket(Wrapper()) is None
    # It has a getHandle too: that of OpenSSL, in which the bytes would stay.
    assert direct_socket(BufferingTLSTransport.__new__(BufferingTLSTransport)) is None
