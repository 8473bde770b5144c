"""Which kind of subscriber a transport gets. What both kinds hold is in `test_socket_client.py`."""

from __future__ import annotations

import pytest
from twisted.internet.testing import StringTransport

from cyclone_sse.delivery.client import FULL, OPEN
from cyclone_sse.delivery.socket_client import WRITE_SIZE, SocketClient
from cyclone_sse.delivery.transport_client import TransportClient
from tests.unit.delivery.clients import socket_client
from tests.unit.fakes import FakeSocket


def test_a_transport_without_a_socket_of_its_own_is_written_to() -> None:
    assert type(socket_client(FakeSocket())) is SocketClient
    assert type(socket_client(StringTransport())) is TransportClient


class FullTransport(StringTransport):
    """A transport whose buffer is full after each write, until `drain`."""

    def write(self, data: bytes) -> None:
        super().write(data)
        assert self.producer is not None
        self.producer.pauseProducing()

    def drain(self) -> None:
        assert self.producer is not None
        self.producer.resumeProducing()


@pytest.mark.parametrize("when", ["before it opens", "after"])
def test_a_transport_that_is_full_in_the_midst_gets_the_rest_when_it_has_room(when: str) -> None:
    transport = FullTransport()
    client = socket_client(transport)
    data = b"x" * 3 * WRITE_SIZE
    if when == "before it opens":
        client.send(data)
    client.open()
    transport.drain()
    if when == "after":
        assert client.state is OPEN
        client.send(data)
    pieces = 0
    while client.state is FULL:
        pieces += 1
        transport.drain()
    assert pieces >= 2
    assert transport.value().endswith(data)
    assert transport.value().count(b"x") == len(data)
