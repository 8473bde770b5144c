"""The sizes of the measurements: those that the targets name, and small ones for a quick run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one round. A crowd is a number of subscribers, with the number of messages sent to them."""

    rounds: int = 5
    crowds: tuple[tuple[int, int], ...] = ((9000, 9), (3600, 15), (1000, 15), (500, 15))  # the largest first
    crowds_of_many_channels: tuple[tuple[int, int], ...] = ((9000, 9), (3600, 15))
    tls_crowds: tuple[tuple[int, int], ...] = ((3600, 15), (1000, 15))
    flow_subscribers: int = 1000
    flow_messages: int = 300
    publishes: int = 6000
    publish_subscribers: int = 10
    missed: int = 50  # events, for each client that resumes
    batch: int = 1000  # events in one POST, each to a channel and subscriber of its own
    batches: int = 10
    channels: tuple[int, ...] = (10000, 95000)  # of one publish
    held_channels: int = 10000  # with an event each, when a client with a pattern subscribes
    pattern_streams: int = 100  # idle
    patterns: int = 20  # of each of these streams
    members: int = 1000  # of a room, and as many that join
    join_seconds: float = 10.0
    flood_seconds: float = 2.0  # of each flood
    entries: int = 10000  # of a Redis stream in one burst
    stream_subscribers: int = 100
    idle_channels: int = 10
    idle_seconds: float = 35.0  # longer than the ping interval

    @property
    def largest(self) -> int:
        """The largest crowd of subscribers."""
        return self.crowds[0][0]


QUICK = Plan(
    rounds=1,
    crowds=((300, 3), (100, 3)),
    crowds_of_many_channels=((300, 3),),
    tls_crowds=((100, 3),),
    flow_subscribers=100,
    flow_messages=50,
    publishes=200,
    missed=10,
    batch=50,
    batches=2,
    channels=(200,),
    held_channels=200,
    pattern_streams=10,
    patterns=3,
    members=50,
    join_seconds=1.0,
    flood_seconds=0.2,
    entries=200,
    stream_subscribers=10,
    idle_seconds=0.5,
)
