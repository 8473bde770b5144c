"""One listening socket: it accepts what waits, makes room or rests when descriptors run out."""

from __future__ import annotations

import errno
import resource
import socket
from typing import Any, cast

import pytest
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from cyclone_sse.daemon.listener import PACE, PAUSE, Listener, TcpServer, set_inherited_options
from cyclone_sse.log_limit import LOG_INTERVAL
from tests.unit.daemon.fakes import FakeReactor


class FakeSocket:
    """A listening socket with connections, and errors, that wait."""

    family = socket.AF_INET

    def __init__(self, *waiting: Any) -> None:
        self.waiting = list(waiting)
        self.closed = False

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return 3

    def listen(self, backlog: int) -> None:
        assert backlog >= 4096

    def _accept(self) -> tuple[Descriptor, Any]:
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, OSError):
            raise first
        return Descriptor(first), ("192.0.2.1", 1234)

    def close(self) -> None:
        self.closed = True


class Descriptor(int):
    """The number of an accepted connection, which leads to it."""

    client: Client

    def __new__(cls, client: Client) -> Descriptor:
        made = super().__new__(cls, client.number)
        made.client = client
        return made


class Client:
    """An accepted connection."""

    family = socket.AF_INET

    def __init__(self, number: int = 10, gone: bool = False) -> None:
        self.number = number
        self.gone = gone
        self.closed = False

    def fileno(self) -> int:
        return self.number

    def recv(self, size: int, flags: int) -> bytes:
        """Nothing has come yet; or the end, from one that has gone."""
        assert flags & socket.MSG_PEEK
        if self.gone:
            return b""
        raise BlockingIOError

    def close(self) -> None:
        self.closed = True


class Factory:
    """Makes protocols; counts them."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def doStart(self) -> None:
        """Begin."""

    def doStop(self) -> None:
        """End."""

    def buildProtocol(self, address: Any) -> Any:
        self.made.append(address)
        return self

    def makeConnection(self, transport: Any) -> None:
        """It is open."""


class Transport:
    """What a connection is written to."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


class Peer:
    """The socket of a connection, with what one read finds, and its protocol."""

    def __init__(self, found: bytes | type[OSError]) -> None:
        self.found = found
        self.received: list[bytes] = []

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return 10

    def recv(self, size: int) -> bytes:
        if isinstance(self.found, bytes):
            return self.found
        raise self.found

    def dataReceived(self, data: bytes) -> bool:
        self.received.append(data)
        return True


@pytest.fixture
def reactor() -> FakeReactor:
    """A reactor for one listener."""
    return FakeReactor()


def listening(reactor: FakeReactor, *waiting: Any, **how: Any) -> tuple[Listener, Factory, FakeSocket]:
    """A listener that has begun, with its factory and socket."""
    sock, factory = FakeSocket(*waiting), Factory()
    listener = Listener(sock, factory, reactor, Transport, **how)  # type: ignore[arg-type]
    listener._open = lambda descriptor: descriptor.client  # type: ignore[attr-defined]
    listener.startListening()
    return listener, factory, sock


def test_all_that_waits_is_taken(reactor: FakeReactor) -> None:
    listener, factory, _ = listening(reactor, Client(), Client(), Client())
    listener.doRead()
    assert [address.host for address in factory.made] == ["192.0.2.1"] * 3


def test_a_crowd_leaves_others_their_turn(reactor: FakeReactor) -> None:
    listener, factory, sock = listening(reactor, *[Client() for _ in range(1000)])
    listener.doRead()
    assert 0 < len(factory.made) < 1000
    assert sock.waiting


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM])
def test_one_that_has_gone_does_not_keep_the_others(reactor: FakeReactor, number: int) -> None:
    listener, factory, _ = listening(reactor, OSError(number, "gone"), Client())
    listener.doRead()
    assert len(factory.made) == 1


def test_a_failure_of_one_does_not_keep_the_others(reactor: FakeReactor, failures: list[Any]) -> None:
    listener, factory, _ = listening(reactor, broken := Client(), Client())
    make, factory.buildProtocol = factory.buildProtocol, None  # type: ignore[assignment, method-assign]
    factory.buildProtocol = lambda address: make(address) if broken.closed else 1 / 0  # type: ignore[method-assign]
    listener.doRead()
    assert broken.closed
    assert len(factory.made) == 1
    assert len(failures) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_it_rests_and_looks_again(reactor: FakeReactor, number: int) -> None:
    listener, factory, sock = listening(reactor, OSError(number, "none"))
    listener.doRead()
    assert listener not in reactor.readers
    sock.waiting.append(Client())
    reactor.advance(PAUSE)
    assert listener in reactor.readers
    listener.doRead()
    assert len(factory.made) == 1


def test_the_last_descriptors_are_kept(reactor: FakeReactor) -> None:
    listener, factory, sock = listening(reactor, Client(1_000_000_000), Client())
    listener.doRead()
    assert len(factory.made) == 1
    assert len(sock.waiting) == 1
    assert listener not in reactor.readers


def test_a_full_process_is_logged_once_a_minute(
    reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[float] = []
    monkeypatch.setattr(
        Listener, "log", type("Log", (), {"error": lambda *_, **__: said.append(reactor.seconds())})
    )
    listener, _, sock = listening(reactor)
    for _ in range(int(3 * LOG_INTERVAL / PAUSE)):
        sock.waiting.append(OSError(errno.EMFILE, "none"))
        listener.doRead()
        reactor.advance(PAUSE)
    assert len(said) == 3


def test_at_the_end_those_that_wait_are_still_taken(reactor: FakeReactor) -> None:
    listener, factory, sock = listening(reactor, *[Client() for _ in range(500)])
    listener.stopListening()
    assert len(factory.made) == 500
    assert sock.closed
    assert listener not in reactor.readers


def test_those_of_a_shared_socket_are_left_to_the_others(reactor: FakeReactor) -> None:
    listener, factory, sock = listening(reactor, Client(), shared=True)
    listener.stopListening()
    assert not factory.made
    assert sock.waiting


def test_an_idle_connection_makes_room_for_each_new_one(reactor: FakeReactor) -> None:
    closed: list[int] = []

    def make_room() -> bool:
        closed.append(1)
        return True

    clients = [Client(1_000_000_000) for _ in range(1000)]
    listener, factory, sock = listening(reactor, *clients, make_room=make_room)
    turns = 0
    while sock.waiting:
        before = len(factory.made)
        listener.doRead()
        turns += 1
        assert len(factory.made) - before <= 16, "the reserve is there for those of one turn"
        assert listener in reactor.readers, "it does not rest"
    assert len(closed) == len(factory.made) == 1000


def test_what_is_dead_is_dropped_in_lots_and_a_newcomer_does_not_wait(reactor: FakeReactor) -> None:
    dead = [Client(1_000_000_000, gone=True) for _ in range(90)]
    listener, factory, _ = listening(reactor, *dead, Client(1_000_000_000))
    listener.doRead()
    assert all(client.closed for client in dead)
    assert len(factory.made) == 1


def test_the_admin_port_may_use_the_last_descriptors(reactor: FakeReactor) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    listener, factory, _ = listening(reactor, Client(limit - 1), Client(limit - 2), reserve=0)
    listener.doRead()
    assert len(factory.made) == 2
    assert listener in reactor.readers


def test_it_accepts_no_more_than_can_shake_hands(reactor: FakeReactor) -> None:
    busy = [True]
    listener, factory, _ = listening(reactor, Client(), is_busy=lambda: busy[0])
    listener.doRead()
    assert not factory.made
    assert listener not in reactor.readers
    busy[0] = False
    reactor.advance(PACE)
    assert listener in reactor.readers
    listener.doRead()
    assert len(factory.made) == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only on Linux")
@pytest.mark.parametrize(("seconds", "milliseconds"), [(60.0, 60_000), (1e9, 2**31 - 1)])
def test_the_kernel_drops_a_peer_after_the_time_or_the_longest_that_it_knows(
    seconds: float, milliseconds: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        set_inherited_options(server, seconds)
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds


@pytest.mark.parametrize(
    ("found", "ended", "received"),
    [
        (b"data", None, [b"data"]),  # whatever its protocol returns
        (b"", CONNECTION_DONE, []),
        (BlockingIOError, None, []),
        (ConnectionResetError, CONNECTION_LOST, []),
    ],
)
def test_a_connection_passes_on_what_has_come_and_tells_how_it_has_ended(
    found: bytes | type[OSError], ended: Exception | None, received: list[bytes], reactor: FakeReactor
) -> None:
    peer, port, fake = Peer(found), cast(Any, None), cast(Any, reactor)
    connection = TcpServer(cast(Any, peer), cast(Any, peer), ("192.0.2.1", 1234), port, 0, fake)
    assert connection.doRead() is ended
    assert peer.received == received
