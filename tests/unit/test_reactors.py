"""A part that is given no reactor takes the global one."""

from __future__ import annotations

from twisted.internet.task import Clock

from cyclone_sse.reactors import reactor_or_global


def test_the_one_that_is_given_counts() -> None:
    clock = Clock()
    assert reactor_or_global(clock) is clock


def test_without_one_the_global_reactor_counts() -> None:
    from twisted.internet import reactor

    assert reactor_or_global(None) is reactor
