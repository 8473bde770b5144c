"""Which connections are closed first when there is no room."""

from __future__ import annotations

from dataclasses import dataclass

from cyclone_sse.http.eviction import AT_ONCE, LOOK_AT, pick_idlest


@dataclass(eq=False)
class Waiting:
    """A connection on which the server waits."""

    network: str
    quiet_since: float


def order(*connections: Waiting) -> list[Waiting]:
    """The order in which they are closed."""
    return [each for each, _ in reversed(pick_idlest(connections, lambda each: each.network, 1000))]


def test_the_idlest_of_the_network_that_has_most_goes_first() -> None:
    honest = Waiting("honest", 0)
    greedy = [Waiting("greedy", since) for since in (5, 3, 4)]
    assert order(honest, *greedy)[0] is greedy[1]


def test_networks_are_made_equal_before_any_loses_all() -> None:
    one = [Waiting("a", since) for since in range(3)]
    two = [Waiting("b", since) for since in range(2)]
    closed = order(*one, *two)
    assert closed[0] is one[0]
    assert {each.network for each in closed[1:3]} == {"a", "b"}


def test_a_connection_that_was_just_opened_goes_last_of_its_network() -> None:
    new = Waiting("a", 100)
    assert order(new, *[Waiting("a", since) for since in range(10)])[-1] is new


def test_it_looks_at_a_bounded_number_and_gives_a_bounded_number() -> None:
    looked = []

    def network(each: Waiting) -> str:
        looked.append(each)
        return each.network

    assert len(pick_idlest([Waiting("a", 0) for _ in range(3 * LOOK_AT)], network, 1000)) == AT_ONCE
    assert len(looked) == LOOK_AT


def test_one_whose_request_may_be_on_its_way_is_kept() -> None:
    assert order(Waiting("a", 1001)) == []


def test_of_none_there_is_none() -> None:
    assert order() == []
