"""Lookups that take long are shared, and keep no process from ending."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from cyclone_sse.daemon.name_resolver import NameResolver, install_name_resolver
from tests.harness.patience import PATIENCE


class Reactor:
    """Calls what the threads ask for when the test says so."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        self.calls.put((function, args))

    def turn(self) -> None:
        """Wait for one call, and make it."""
        function, args = self.calls.get(timeout=PATIENCE)
        function(*args)


@implementer(IResolutionReceiver)
class Receiver:
    """What Twisted passes to a resolver. found: the addresses, None until they are complete."""

    found: list[IAddress] | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.name = resolutionInProgress.name
        self._addresses: list[IAddress] = []

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        assert self.found is None
        self.found = self._addresses


class Names:
    """A name server that answers when it is released. asked: what was looked up."""

    def __init__(self, answer: Sequence[tuple[Any, ...]] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []
        self.daemons: list[bool] = []
        self.released = threading.Event()

    def look_up(self, *question: Any) -> Sequence[tuple[Any, ...]]:
        self.asked.append(question)
        self.daemons.append(threading.current_thread().daemon)
        assert self.released.wait(PATIENCE)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0))


def test_all_connections_that_wait_for_a_host_share_one_lookup() -> None:
    """Each attempt to connect added one, and the process ended only after all of them."""
    reactor, names = Reactor(), Names([V4, V6])
    resolver = NameResolver(reactor, names.look_up)
    receivers = [Receiver() for _ in range(50)]
    for receiver in receivers:
        assert resolver.resolveHostName(receiver, "www.example", 80).name == receiver.name == "www.example"
    names.released.set()
    reactor.turn()
    addresses = [IPv4Address("TCP", "192.0.2.1", 80), IPv6Address("TCP", "2001:db8::1", 80, 0, 0)]
    assert [receiver.found for receiver in receivers] == [addresses] * 50
    assert names.asked == [("www.example", 80, socket.AF_UNSPEC, socket.SOCK_STREAM)]
    assert names.daemons == [True], "else the process could not end before the answer"
    again = Receiver()
    resolver.resolveHostName(again, "www.example", 80)
    reactor.turn()
    assert again.found == addresses


def test_only_the_family_that_is_asked_for_is_looked_up() -> None:
    reactor, names = Reactor(), Names([V4])
    names.released.set()
    resolver = NameResolver(reactor, names.look_up)
    for types in ([IPv4Address], [IPv6Address], [IPv4Address, IPv6Address]):
        resolver.resolveHostName(Receiver(), "www.example", 0, types)
        reactor.turn()
    assert [family for _, _, family, _ in names.asked] == [socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "no such host"), UnicodeError("a label too long")])
def test_a_host_that_is_not_found_has_no_addresses(error: Exception) -> None:
    reactor, names, receiver = Reactor(), Names(error), Receiver()
    names.released.set()
    NameResolver(reactor, names.look_up).resolveHostName(receiver, "www.example")
    reactor.turn()
    assert receiver.found == []


def test_without_a_thread_there_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    receiver = Receiver()
    resolver = NameResolver(Reactor())
    for _ in range(2):
        resolver.resolveHostName(receiver, "www.example")
        assert receiver.found == []
        receiver = Receiver()


def test_connections_by_name_use_it() -> None:
    reactor = EPollReactor()
    install_name_resolver(reactor)
    assert isinstance(reactor.nameResolver, NameResolver)
    reactor.disconnectAll()
