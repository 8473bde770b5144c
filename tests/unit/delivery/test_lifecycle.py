"""Pings, ages, expiry, and clients that have stopped to read."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cyclone_sse.counters import Counters
from cyclone_sse.delivery.channels import Channels
from cyclone_sse.delivery.client import State
from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.fanout import Fanout
from cyclone_sse.delivery.hub import Hub
from cyclone_sse.delivery.lifecycle import Lifecycle, LifecycleFigures
from cyclone_sse.delivery.publication import publication
from cyclone_sse.errors import Ending
from cyclone_sse.options import with_defaults
from tests.unit.delivery.clients import EPOCH, Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock

PING = b": sse ping\n\n"
SETTINGS = with_defaults({"max-age": 1000.0})


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


def pass_time(clock: TurnClock, seconds: float, step: float = 0.5) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)
        turns(clock)


def running(clock: TurnClock, **settings: Any) -> Hub:
    hub = make_hub(clock, **settings)
    hub.start()
    return hub


def test_a_silent_client_is_pinged_each_interval(clock: TurnClock) -> None:
    hub = running(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    pass_time(clock, 26)
    assert client.got == []
    pass_time(clock, 5)
    assert len(client.got) == 1
    assert client.got[0].startswith(b"id: "), "the first brings an id to reconnect with"
    pass_time(clock, 60)
    assert set(client.got[1:]) == {PING}
    assert 2 <= len(client.got[1:]) <= 3, "each up to a tenth early"


def test_what_is_sent_puts_the_ping_off(clock: TurnClock) -> None:
    hub = running(clock)
    client = Recorder()
    hub.subscribe(client, ["a"])
    for _ in range(10):
        pass_time(clock, 20)
        hub.publish(publication("a", "x"))
        turns(clock)
    assert PING not in client.got
    pass_time(clock, 31.5)
    assert client.got.count(PING) == 1


@pytest.mark.parametrize("turns_before", [0, 1, 2])
def test_a_ping_brings_no_id_of_an_event_that_is_sent_after_it(clock: TurnClock, turns_before: int) -> None:
    hub = running(clock, ping_interval=10)
    clients = [Recorder() for _ in range(2500)]
    for client in clients:
        client.renews_id = True
        hub.subscribe(client, ["a"])
    pass_time(clock, 9)
    for client in clients:
        client.got.clear()
    clock.rightNow += 1
    hub._send_pings()
    for _ in range(turns_before):
        clock.turn()
    event = hub.publish(publication("a", "the event"))
    turns(clock)
    for client in clients:
        before = b"".join(client.got).partition(b"data: the event")[0]
        ids = [EventId.parse(line[4:]) for line in before.decode().splitlines() if line.startswith("id: ")]
        assert ids.pop() == event.id
        assert all(found is not None and found.seq < event.seq for found in ids)
    assert any(b": sse ping" in b"".join(client.got) for client in clients)


def test_pings_can_be_off(clock: TurnClock) -> None:
    hub = running(clock, ping_interval=0)
    client = Recorder()
    hub.subscribe(client, ["a"])
    pass_time(clock, 100)
    assert client.got == []


def test_streams_have_an_age_each_its_own(clock: TurnClock) -> None:
    hub = running(clock, max_age=100, ping_interval=0)
    clients = [Recorder() for _ in range(200)]
    for client in clients:
        hub.subscribe(client, ["a"])
    pass_time(clock, 89)
    assert {client.ending for client in clients} == {None}
    pass_time(clock, 11)
    assert 50 < sum(client.ending is Ending.AGED for client in clients) < 150
    pass_time(clock, 12)
    assert {client.ending for client in clients} == {Ending.AGED}


@pytest.mark.parametrize("max_age", [0, 1000])
def test_a_stream_ends_with_its_access_and_says_so(clock: TurnClock, max_age: int) -> None:
    hub = running(clock, max_age=max_age, ping_interval=0)
    client = Recorder()
    client.expires = EPOCH + 60
    hub.subscribe(client, ["a"])
    pass_time(clock, 59)
    assert client.ending is None
    pass_time(clock, 2)
    assert client.ending is Ending.EXPIRED
    assert b"event: sse-expired\n" in client.got[-1]


class Slow(FakeSocket):
    """A socket whose client takes bytes now and then."""

    acked = 0

    def getsockopt(self, *_: object) -> bytes:
        return bytes(120) + self.acked.to_bytes(8, "little")


def test_a_client_that_takes_nothing_of_what_waits_is_cut_off(clock: TurnClock) -> None:
    hub = running(clock, stall_timeout=60, ping_interval=0)
    sockets = [Slow(room=0), Slow(room=0), Slow()]
    clients = [socket_client(socket, b"") for socket in sockets]
    for client in clients:
        hub.subscribe(client, ["a"])
        client.open()
    hub.publish(publication("a", "x"))
    turns(clock)
    assert [client.state for client in clients] == [State.FULL, State.FULL, State.OPEN]
    for _ in range(10):
        pass_time(clock, 30)
        sockets[1].acked += 1  # a byte each half minute is something
    assert [client.ending for client in clients] == [Ending.STALLED, None, None]
    assert sockets[0].aborted


def test_a_stream_that_was_ended_does_not_wait_for_a_client_for_ever(clock: TurnClock) -> None:
    hub = running(clock, stall_timeout=60, ping_interval=0)
    client = socket_client(Slow(room=0), b"")
    hub.subscribe(client, ["a"])
    client.open()
    hub.publish(publication("a", "x"))
    hub.end(Ending.DRAINED)
    turns(clock)
    states = [client.state]
    pass_time(clock, 70)
    assert [*states, client.state] == [State.CLOSING, State.GONE]
    assert client.ending is Ending.DRAINED


def test_nothing_is_left_of_who_has_gone(clock: TurnClock) -> None:
    hub = running(clock, max_age=50, stall_timeout=5)
    socket = Slow(room=0)
    client = socket_client(socket, b"")
    hub.subscribe(client, ["a"])
    client.open()
    hub.publish(publication("a", "x"))
    turns(clock)
    client.lost()
    hub.unsubscribe(client)
    assert hub.lifecycle.figures() == LifecycleFigures(pings=0, ages=0, expiries=0, stalls=0, endings=0)


def test_a_client_that_has_gone_before_it_is_ended_is_not_watched(clock: TurnClock) -> None:
    hub = running(clock)
    client = socket_client(FakeSocket(), b"")
    hub.subscribe(client, ["a"])
    client.open()
    hub.end(Ending.ENDED)
    client.lost()
    hub.unsubscribe(client)
    turns(clock)
    assert hub.slow_clients() == []
    assert hub.lifecycle.figures() == LifecycleFigures(pings=0, ages=0, expiries=0, stalls=0, endings=0)


@pytest.mark.slow
def test_no_turn_is_long_in_a_crowd_of_many_channels(clock: TurnClock) -> None:
    """10,000 clients of 30 channels each, while events, pings, gaps, ages and returns go on.

    The length of a turn is counted in what it does: the clients served in it, and the pairs of a client and
    a channel that are looked at. That is the same on a slow machine.
    """
    rng = random.Random(1)
    hub = running(clock, max_age=40, ping_interval=5)
    served = 0

    class Counting(Recorder):
        def send(self, data: bytes, frames: object = (), seqs: object = ()) -> None:
            nonlocal served
            served += 1

    crowd = []
    for _ in range(10_000):
        client = Counting()
        hub.subscribe(client, [f"c{number}" for number in rng.sample(range(1000), 30)])
        crowd.append(client)
    most = 0
    for second in range(50):
        for number in range(0, 1000, 25):
            hub.publish(publication(f"c{(number + second) % 1000}", "x"))
        if second % 10 == 5:
            hub.send_gap(f"c{number}" for number in range(300))
        clock.advance(1)
        for _ in range(2000):
            served = 0
            if not any(call.getTime() <= clock.seconds() for call in clock.calls):
                break
            clock.turn()
            most = max(most, served)
    assert {client.ending for client in crowd} == {Ending.AGED}
    assert most <= 1000, "about 10 ms of sends"


def test_access_expires_by_the_wall_clock(clock: TurnClock) -> None:
    """The reactor's clock stands still while a machine is suspended."""
    wall = [1000.0]
    lifecycle = Lifecycle(
        SETTINGS, Fanout(Channels(), Counters(), clock), clock, lambda: wall[0] + clock.seconds()
    )
    ending, going_on, aging = clients = [Recorder() for _ in range(3)]
    for client, expires in zip(clients, (1050.0, 1100.0, None), strict=True):
        client.expires = expires
        lifecycle.add(client)
    wall[0] += 60  # suspended
    for _ in range(3):
        lifecycle.end_overdue()
        turns(clock)
    assert ending.ending is Ending.EXPIRED
    assert (going_on.ending, aging.ending) == (None, None)
    clock.advance(40)
    lifecycle.end_overdue()
    turns(clock)
    assert going_on.ending is Ending.EXPIRED
    assert aging.ending is None
