"""The walk over the clients: its order, its turns, and what fails in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from socket import socket as Socket
from socket import socketpair
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclone_sse.counters import Counters
from cyclone_sse.delivery import fanout
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId, encode
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.socket_client import SocketClient
from cyclone_sse.errors import Ending
from tests.unit.delivery.clients import Recorder, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock


class OnHandle(FakeSocket):
    """A transport on a real socket."""

    def __init__(self, handle: Socket) -> None:
        super().__init__()
        self._handle = handle

    def getHandle(self) -> Any:
        return self._handle


class Site:
    """A walk with its clients."""

    def __init__(self, slice: int = 500) -> None:
        self.clock = TurnClock()
        self.registry: Channels[Client] = Channels()
        self.counters = Counters()
        self.fanout = Fanout(self.registry, self.counters, self.clock, slice)
        self._n = 0

    def client(self, *channels: str) -> Recorder:
        client = Recorder()
        client.skip_until = 0
        self.registry.add(client, channels)
        return client

    def stream(self, *channels: str, socket: FakeSocket, client_id: str | None = None) -> SocketClient:
        client = socket_client(socket)
        client.skip_until, client.client_id = 0, client_id
        client.open()
        self.registry.add(client, channels)
        return client

    def publish(self, *channels: str, excluded: str | None = None, size: int = 0) -> None:
        self._n += 1
        eid = EventId.of(self._n, 0, "node")
        event = Event(eid, encode(b"%d" % self._n + b"x" * size, eid), channels)
        event.excluded = excluded
        self.fanout.add(event)


def test_events_of_one_turn_leave_after_it_in_one_write() -> None:
    site = Site()
    client = site.client("a", "b")
    for channels in (("a",), ("b",), ("a", "b"), ("c",)):
        site.publish(*channels)
    assert client.got == []
    site.clock.turn()
    assert len(client.got) == 1
    assert client.data == ["1", "2", "3"]
    assert site.counters.deliveries == 3


def test_what_is_asked_for_after_an_event_comes_after_it() -> None:
    site = Site()
    client = site.client("a")
    site.publish("a")
    site.fanout.each([client], lambda each: each.send(b"data: between\n\n"))
    site.publish("a")
    turns(site.clock)
    assert client.data == ["1", "between", "2"]


def test_a_long_walk_gives_turns_and_what_comes_meanwhile_waits() -> None:
    site = Site(slice=2)
    clients = [site.client("a") for _ in range(5)]
    site.publish("a")
    site.clock.turn()
    assert [len(client.got) for client in clients] == [1, 1, 0, 0, 0]
    site.publish("a")
    turns(site.clock)
    assert [client.data for client in clients] == [["1", "2"]] * 5


def test_a_turn_serves_fewer_clients_with_a_large_event() -> None:
    site = Site(slice=40)
    clients = [site.client("a") for _ in range(6)]
    site.publish("a", size=300_000)
    site.clock.turn()
    assert [len(client.got) for client in clients] == [1, 1, 1, 1, 0, 0]
    site.clock.turn()
    assert [len(client.got) for client in clients] == [1] * 6


def test_who_is_further_on_gets_the_rest_alone() -> None:
    site = Site()
    client = site.client("a")
    client.skip_until = EventId.of(1, 0, "node").seq
    site.publish("a")
    site.publish("a")
    turns(site.clock)
    assert client.data == ["2"]


@pytest.mark.parametrize("how", ["event", "step"])
def test_a_client_that_fails_affects_no_other(how: str, failures: list[Any]) -> None:
    site = Site()
    broken, whole = site.client("a"), site.client("a")
    broken.send = lambda data, frames=(), seqs=(): 1 / 0  # type: ignore[method-assign, assignment]
    if how == "event":
        site.publish("a")
    else:
        site.fanout.each([broken, whole], lambda each: each.send(b"data: 1\n\n"))
    turns(site.clock)
    assert whole.data == ["1"]
    assert len(failures) == 1


def test_it_is_idle_when_all_is_done() -> None:
    site = Site(slice=1)
    assert site.fanout.idle().called
    for _ in range(3):
        site.client("a")
    site.publish("a")
    idle = site.fanout.idle()
    site.clock.turn()
    assert not idle.called
    turns(site.clock)
    assert idle.called


def test_each_client_is_sent_the_names_that_it_wants_in_one_walk() -> None:
    site = Site()
    sockets = [FakeSocket() for _ in range(4)]
    for number, socket in enumerate(sockets):
        site.stream("a", *"b" * (number % 2), socket=socket).fields = number > 1
    site.publish("a", "b")
    site.clock.turn()
    assert [socket.received.count(b"channel: a\n") for socket in sockets] == [0, 0, 1, 1]
    assert [socket.received.count(b"channel: b\n") for socket in sockets] == [0, 0, 0, 1]
    assert site.counters.deliveries == 4
    assert site.counters.sent_bytes == sum(len(socket.received) for socket in sockets)


def test_an_excluded_client_costs_the_others_nothing() -> None:
    site = Site()
    mine, other, full = FakeSocket(), FakeSocket(), FakeSocket(3)
    site.stream("a", socket=mine, client_id="me")
    site.stream("a", socket=other)
    slow = site.stream("a", socket=full)
    site.publish("a", excluded="me")
    site.clock.turn()
    site.publish("a")
    site.clock.turn()
    assert mine.received.count(b"data: ") == 1
    assert other.received.count(b"data: ") == 2
    assert slow.waiting_bytes == len(other.received) - 3
    full.read(None)
    assert full.received == other.received


def test_a_client_that_has_left_is_ended_by_the_walk_and_the_others_are_served() -> None:
    site = Site()
    gone, other = FakeSocket(), FakeSocket()
    left = site.stream("a", socket=gone)
    site.stream("a", socket=other)
    gone.closed = True
    site.publish("a")
    site.clock.turn()
    assert left.ending is Ending.LEFT
    assert gone.aborted
    assert b"data: 1" in other.received
    assert (site.counters.deliveries, site.counters.sent_bytes) == (1, len(other.received))


def test_the_name_is_that_of_the_event_though_a_client_has_left_the_channel_meanwhile() -> None:
    site = Site(slice=2)
    sockets = [FakeSocket() for _ in range(4)]
    clients = [site.stream("a", "b", socket=socket) for socket in sockets]
    for client in clients:
        client.fields = True
    site.publish("a")
    site.clock.turn()
    site.registry.remove(clients[2], ["a"])
    turns(site.clock)
    assert [socket.received.count(b"channel: a\n") for socket in sockets] == [1, 1, 1, 1]


@pytest.mark.parametrize("many", [1, 1000])
def test_a_client_whose_queue_fails_affects_no_other(
    many: int, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: Client) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fanout, "Socket", FakeSocket)
    monkeypatch.setattr(fanout, "_MANY", many)
    site = Site()
    other = FakeSocket()
    site.stream("a", socket=FakeSocket(3)).on_full = fail
    site.stream("a", socket=other)
    site.publish("a")
    site.clock.turn()
    assert b"data: 1" in other.received
    assert len(failures) == 1


def test_many_clients_on_real_sockets_are_served_though_one_is_full_and_one_has_left() -> None:
    site = Site()
    pairs = [socketpair() for _ in range(fanout._MANY)]
    clients = []
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.setblocking(False)
        clients.append(site.stream("a", socket=OnHandle(ours)))
    full, gone = 3, 5
    with suppress(BlockingIOError):
        while True:
            pairs[full][0].send(bytes(1000))
    pairs[gone][1].close()
    site.publish("a")
    site.clock.turn()
    whole = [number for number in range(len(pairs)) if number not in (full, gone)]
    received = {pairs[number][1].recv(1000) for number in whole}
    assert [frame.count(b"data: 1\n") for frame in received] == [1]
    (frame,) = received
    assert clients[full].waiting_bytes == len(frame)
    assert clients[gone].ending is Ending.LEFT
    assert (site.counters.deliveries, site.counters.sent_bytes) == (
        len(whole) + 1,
        (len(whole) + 1) * len(frame),
    )
    for pair in pairs:
        for end in pair:
            end.close()


@pytest.mark.parametrize("many", [1, fanout._MANY])
def test_a_socket_that_fails_in_another_way_affects_no_other(
    many: int, failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(FakeSocket):
        def send(self, data: bytes) -> int:
            if self.room is not None:
                raise ZeroDivisionError
            return super().send(data)

    monkeypatch.setattr(fanout, "Socket", Broken)
    monkeypatch.setattr(fanout, "_MANY", many)
    site = Site()
    sockets = [Broken(), Broken(), Broken()]
    for one in sockets:
        site.stream("a", socket=one)
    sockets[1].room = 1
    site.publish("a")
    site.clock.turn()
    assert [one.received.count(b"data: 1") for one in sockets] == [1, 0, 1]
    assert len(failures) == 1
    assert site.counters.deliveries == 2


@pytest.mark.parametrize("first", ["named", "full", "excluded", "ahead"])
def test_clients_that_differ_do_not_keep_the_others_from_being_served_together(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    monkeypatch.setattr(fanout, "Socket", FakeSocket)
    monkeypatch.setattr(fanout, "_MANY", 2)
    served: list[int] = []
    send_to_each = Fanout._send_to_each

    def note(self: Fanout, clients: Sequence[Client], *args: Any) -> list[Client]:
        served.append(len(clients))
        return send_to_each(self, clients, *args)

    monkeypatch.setattr(Fanout, "_send_to_each", note)
    sockets = [FakeSocket() for _ in range(9)]
    clients = [site.stream("a", socket=socket, client_id=f"{n}") for n, socket in enumerate(sockets)]
    clients[0].fields = first == "named"
    if first == "full":
        sockets[0].room = 0
        clients[0].send(b": ")
    if first == "ahead":
        clients[0].skip_until = EventId.of(1, 0, "node").seq
    site.publish("a", excluded="0" if first == "excluded" else None)
    site.clock.turn()
    assert served == [1]
    assert all(b"data: 1" in socket.received for socket in sockets[1:])


def test_a_socket_with_a_send_of_its_own_is_not_bypassed() -> None:
    class Encrypting(Socket):
        def send(self, data: Any, /) -> int:  # type: ignore[override]
            return super().send(bytes(data)[::-1])

    site = Site()
    pairs = [socketpair() for _ in range(fanout._MANY)]
    ours = [Encrypting(fileno=pair[0].detach()) for pair in pairs]
    for our in ours:
        site.stream("a", socket=OnHandle(our))
    site.publish("a")
    site.clock.turn()
    assert {pair[1].recv(1000)[:2] for pair in pairs} == {b"\n\n"}
    for our, (_, their) in zip(ours, pairs, strict=True):
        our.close()
        their.close()


ALIKE = ["ready", "full", "short", "gone"]
NAMES = ["names", "names of a"]
CLIENTS = [*ALIKE, *NAMES, "ahead", "excluded", "alone"]


@settings(max_examples=500)
@given(
    kinds=st.sampled_from([ALIKE, NAMES, CLIENTS]).flatmap(
        lambda kinds: st.lists(st.sampled_from(kinds), min_size=1, max_size=5)
    ),
    orders=st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.booleans()), min_size=1, max_size=4),
    together=st.booleans(),
)
def test_it_makes_no_difference_whether_clients_are_sent_the_events_all_at_once(
    kinds: list[str], orders: list[tuple[str, bool]], together: bool
) -> None:
    def walk(many: int) -> list[object]:
        site = Site()
        site.clock.advance(1)
        sockets, clients = [], []
        for kind in kinds:
            room = {"full": 0, "short": 20}.get(kind)
            one = FakeSocket(room)
            sockets.append(one)
            channels = ("a",) if kind == "names of a" else ("a", "b")
            client = site.stream(*channels, socket=one, client_id="me" if kind == "excluded" else None)
            clients.append(client)
            client.fields = kind.startswith("names")
            if kind == "alone":
                client.ready_socket = None  # its bytes are its own
            if kind == "ahead":
                client.skip_until = EventId.of(1, 0, "node").seq
            one.closed = kind == "gone"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fanout, "Socket", FakeSocket)
            patch.setattr(fanout, "_MANY", many)
            for names, excludes in orders:
                site.publish(*names, excluded="me" if excludes else None)
                if not together:
                    turns(site.clock)
            turns(site.clock)
        for one in sockets:
            one.read(None)
        return [
            site.counters.deliveries,
            site.counters.sent_bytes,
            *((bytes(one.received), one.aborted) for one in sockets),
            *(client.last_sent_at for client in clients),
        ]

    assert walk(1) == walk(1000)
