"""Room for the bodies that are under way."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cyclone_sse.http.body_budget import BUDGET, BodyBudget, BodyMemory
from cyclone_sse.http.connection import BODY_WAIT
from tests.unit.http.peer import STATS, MemoryServer, Peer, head

GONE = Failure(ConnectionDone())
MIB = 2**20
AWAITED, RESERVED = BodyMemory.AWAITED, BodyMemory.RESERVED


class Waiter:
    """A connection that a body comes in on."""

    def __init__(self, network: str = "a") -> None:
        self.network = network
        self.reads = False

    def continue_body(self) -> None:
        self.reads = True


def test_what_finds_no_room_waits_for_those_before_it() -> None:
    budget = BodyBudget(80)
    senders = [Waiter(str(number)) for number in range(6)]
    assert [budget.reserve(each, each.network, 20) for each in senders] == [RESERVED] * 4 + [AWAITED] * 2
    budget.release(senders[0], "0")
    assert [each.reads for each in senders[4:]] == [True, False]
    budget.release(senders[5], "5")  # it has gone while it waited
    budget.release(senders[4], "4")
    assert not senders[5].reads
    assert budget.used == 60


def test_one_network_leaves_room_for_others() -> None:
    budget = BodyBudget(80)
    greedy = [Waiter() for _ in range(10)]
    assert [budget.reserve(each, "a", 10) for each in greedy] == [RESERVED] * 2 + [AWAITED] * 8
    assert budget.reserve(Waiter("b"), "b", 20) is RESERVED
    budget.release(greedy[0], "a")
    assert greedy[2].reads
    assert not greedy[3].reads


def test_one_that_is_larger_than_all_room_has_it_alone() -> None:
    budget = BodyBudget(80)
    assert budget.reserve(Waiter(), "a", 100) is RESERVED
    assert budget.reserve(Waiter("b"), "b", 1) is AWAITED


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(1, 30))))
def test_whatever_comes_and_goes_the_sum_is_right_and_nothing_is_left(
    steps: list[tuple[int, str, int]],
) -> None:
    budget = BodyBudget(80)
    there: dict[int, tuple[Waiter, int]] = {}
    for number, network, size in steps:
        if number in there:
            sender, _ = there.pop(number)
            budget.release(sender, sender.network)
        else:
            sender = Waiter(network)
            sender.reads = budget.reserve(sender, network, size) is RESERVED
            there[number] = (sender, size)
        reading = sum(size for sender, size in there.values() if sender.reads)
        assert budget.used == reading <= 80
        assert reading or not there
    for sender, _ in there.values():
        budget.release(sender, sender.network)
    assert budget.used == 0
    assert not budget._waiting
    assert not budget._of_network


class PlainBudget:
    """The same rules in simple words: at each release, all networks are looked at, one after another."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reading: dict[Any, tuple[str, int]] = {}
        self.queues: dict[str, list[tuple[Any, int]]] = {}

    def fits(self, network: str, size: int) -> bool:
        used = sum(each for _, each in self.reading.values())
        mine = sum(each for name, each in self.reading.values() if name == network)
        return (not used or used + size <= self.limit) and (not mine or mine + size <= self.limit // 4)

    def reserve(self, sender: Any, network: str, size: int) -> BodyMemory:
        if network not in self.queues and self.fits(network, size):
            self.reading[sender] = network, size
            return RESERVED
        self.queues.setdefault(network, []).append((sender, size))
        return AWAITED

    def release(self, sender: Any, network: str) -> None:
        if self.reading.pop(sender, None) is None:
            self.queues[network] = [each for each in self.queues[network] if each[0] is not sender]
        for name in (network, *[each for each in self.queues if each != network]):
            queue = self.queues.get(name)
            while queue and self.fits(name, queue[0][1]):
                other, size = queue.pop(0)
                self.reading[other] = name, size
                other.continue_body()
            if not queue:
                self.queues.pop(name, None)


@given(st.lists(st.tuples(st.integers(0, 24), st.sampled_from("abcdef"), st.integers(1, 100)), max_size=120))
def test_the_same_senders_read_in_the_same_order_as_if_all_were_looked_at(
    steps: list[tuple[int, str, int]],
) -> None:
    """The sender of each step comes with a body of this size, or goes if it is there."""

    def run(budget: BodyBudget | PlainBudget) -> list[tuple[int, int]]:
        read: list[tuple[int, int]] = []  # the step, and the sender that reads from then on
        step = 0

        class Noting(Waiter):
            def continue_body(self) -> None:
                read.append((step, numbers[self]))

        there: dict[int, Waiter] = {}
        numbers: dict[Waiter, int] = {}
        for number, network, size in steps:
            step += 1
            if number in there:
                sender = there.pop(number)
                budget.release(sender, sender.network)
            else:
                sender = there[number] = Noting(network)
                numbers[sender] = number
                if budget.reserve(sender, network, size) is RESERVED:
                    sender.continue_body()
        return read

    assert run(BodyBudget(80)) == run(PlainBudget(80))


@pytest.mark.parametrize("networks", [1, 400])
@pytest.mark.parametrize("order", [1, -1])
def test_a_crowd_that_leaves_costs_a_few_steps_each(networks: int, order: int) -> None:
    """Without this, 5,000 connections that leave together would block the server for seconds."""
    budget = BodyBudget(80)
    crowd = [Waiter(str(number % networks)) for number in range(400)]
    for each in crowd:
        budget.reserve(each, each.network, 19)
    steps = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal steps
        steps += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for each in crowd[::order]:
            budget.release(each, each.network)
    finally:
        sys.setprofile(before)
    assert not budget.used
    assert steps < 30 * len(crowd)


def post(server: MemoryServer, address: str) -> Peer:
    """A client that sends all of a large body but its last byte, as far as it is read."""
    peer = server.peer(address)
    body = b"x" * (MIB - 1)
    peer.send(head("Content-Type: text/plain", f"Content-Length: {MIB}"))
    for start in range(0, MIB, 65536):
        if peer.transport.reading:
            peer.send(body[start : start + 65536])
    return peer


def test_bodies_that_find_no_room_are_not_read() -> None:
    server = MemoryServer()
    greedy = [post(server, "192.0.2.1") for _ in range(30)]
    assert [peer.transport.reading for peer in greedy] == [True] * 16 + [False] * 14
    assert server.connections.bodies.used == 16 * MIB <= BUDGET // 4
    other = post(server, "198.51.100.1")
    other.send(b"x")
    assert other.statuses == [415], "others are served"
    greedy[0].send(b"x" + STATS)
    assert greedy[0].statuses == [415, 200]
    assert greedy[16].transport.reading, "the next in turn is read"
    for peer in greedy:
        peer.connection.connectionLost(GONE)
    assert server.connections.bodies.used == 0


def test_a_body_that_finds_no_room_for_long_is_refused() -> None:
    server = MemoryServer()
    assert server.connections.bodies.reserve(Waiter(), "192.0.2.1", BUDGET // 4) is RESERVED
    peer = post(server, "192.0.2.1")
    peer.wait(BODY_WAIT - 1)
    assert peer.statuses == []
    peer.wait(1)
    assert peer.statuses == [503]
