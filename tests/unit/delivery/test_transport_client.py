"""Which kind of subscriber a transport gets. What both kinds hold is in `test_subscriber.py`."""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import BufferingTLSTransport

from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.delivery.transport_client import TransportClient, make_client
from tests.unit.fakes import FakeSocket


def test_a_transport_without_a_socket_of_its_own_is_written_to() -> None:
    class Wrapper:  # as around TLS: unknown attributes are those of the socket below
        def __getattr__(self, name: str) -> Any:
            return getattr(FakeSocket(), name)

    assert type(make_client(FakeSocket(), b"", 1)) is SocketClient
    assert type(make_client(Wrapper(), b"", 1)) is TransportClient
    # It has a getHandle too: that of OpenSSL, in which the bytes would stay.
    tls = BufferingTLSTransport.__new__(BufferingTLSTransport)
    assert type(make_client(tls, b"", 1)) is TransportClient
