"""Which kind of subscriber a transport gets. What both kinds hold is in `test_subscriber.py`."""

from __future__ import annotations

from twisted.internet.testing import StringTransport

from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.delivery.transport_client import TransportClient
from tests.unit.delivery.clients import socket_client
from tests.unit.fakes import FakeSocket


def test_a_transport_without_a_socket_of_its_own_is_written_to() -> None:
    assert type(socket_client(FakeSocket())) is SocketClient
    assert type(socket_client(StringTransport())) is TransportClient
