"""Open clients add and remove channels while all kinds of things go on: each event comes once, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cyclone_sse.delivery import channel_reader, history, log_reader, publishing, turn
from cyclone_sse.delivery.client import NOT_LIVE
from cyclone_sse.delivery.events import EventId
from cyclone_sse.delivery.publication import publication
from tests.harness.eventstream import Event, Parser
from tests.unit.delivery.clients import Recorder, make_hub, socket_client, turns
from tests.unit.fakes import FakeSocket, TurnClock

CHANNELS = "abcd"
LIMIT = 2000  # bytes that may wait for the client
FILLERS = [f"filler-{number}" for number in range(8)]
PRESENCE = b": presence\n\n"  # bytes that the history does not repeat


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Let everything take many turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turn, "PAIRS", 2)
        for module in (channel_reader, log_reader):
            patch.setattr(module, "BATCH_EVENTS", 3)
            patch.setattr(module, "BATCH_BYTES", 1000)
        patch.setattr(history, "MANY", 3)
        patch.setattr(publishing, "MANY", 3)
        yield


class Story:
    """One client, what it was to receive, and what it did receive."""

    def __init__(self, history_size: int, room: int | None) -> None:
        self.clock = TurnClock()
        self.hub = make_hub(self.clock, history_size=history_size)
        self.hub._fanout._slice = 2
        self.crowd = [Recorder() for _ in range(6)]
        for number, each in enumerate(self.crowd):
            self.hub.subscribe(each, [CHANNELS[number % 4], FILLERS[number]])
        self.published: list[tuple[int, str]] = []  # position, channel
        self.positions = [self.hub.position()]
        self.starts: dict[str, int] = {"a": self.hub.ids.last}  # after which each channel must be complete
        self.left: dict[str, str] = {}  # the position when a channel was removed
        self.lost: dict[str, int] = {}  # the position up to which the last gap of a channel is about
        self.last_add = 0
        self.socket = FakeSocket(room)
        self.client = socket_client(self.socket, limit=LIMIT)
        self.hub.subscribe(self.client, ["a"])
        self.client.open()

    def publish(self, channel: str, count: int, size: int, is_wide: bool) -> None:
        names = [channel, *FILLERS] if is_wide else [channel]
        for _ in range(count):
            event = self.hub.publish(publication(names, f"{channel} {'x' * size}"))
            self.published.append((event.seq, channel))

    def note(self) -> None:
        self.positions.append(self.hub.position())

    def add(self, channel: str, place: int | None) -> None:
        if channel in self.client.channels:
            return
        last_event_id = None
        if place is not None:
            last_event_id = self.left.get(channel) or self.positions[place % len(self.positions)]
        now = self.hub.ids.last
        eid = EventId.parse(last_event_id) if last_event_id else None
        self.starts[channel] = now if eid is None else eid.seq
        self.last_add = now
        self.hub.subscribe(self.client, [channel], last_event_id)

    def remove(self, channel: str) -> None:
        if channel in self.client.channels and len(self.client.channels) > 1:
            self.left[channel] = self.hub.position()
            self.hub.unsubscribe(self.client, [channel])
            del self.starts[channel]

    def turn(self) -> None:
        self.clock.turn()

    def read(self, size: int) -> None:
        if self.socket.room is not None:
            self.socket.read(size)

    def gap(self, channel: str) -> None:
        self.hub.send_gap([channel])
        self.lost[channel] = self.hub.ids.last

    def presence(self, count: int) -> None:
        self.client.send(PRESENCE * count)

    def finish(self) -> list[Event]:
        self.socket.read(None)
        turns(self.clock)
        self.socket.read(None)
        turns(self.clock)
        return Parser().feed(bytes(self.socket.received))


channels = st.sampled_from(CHANNELS)
turn_ = st.tuples(st.just("turn"))
counts, sizes = st.integers(1, 5), st.integers(0, 400)
publish = st.tuples(st.just("publish"), channels, counts, sizes, st.just(False))
publish_wide = st.tuples(st.just("publish"), channels, counts, sizes, st.just(True))
add = st.tuples(st.just("add"), channels, st.none() | st.integers(0, 100))
others = st.one_of(
    st.tuples(st.just("remove"), channels),
    st.tuples(st.just("note")),
    st.tuples(st.just("read"), st.integers(1, 1000)),
    st.tuples(st.just("presence"), st.integers(1, 20)),
)
steps = st.one_of(publish, turn_, publish, turn_, add, others)
gap = st.tuples(st.just("gap"), channels)
rooms = st.one_of(st.integers(0, 1000), st.none())


def play(story: Story, script: list[tuple[Any, ...]]) -> list[Event]:
    for name, *arguments in script:
        getattr(story, name)(*arguments)
        figures = story.client.figures()
        assert figures.waiting_bytes - figures.in_transport <= LIMIT + 2000, "memory is bounded"
    received = story.finish()
    assert story.client.ending is None
    assert story.client.skip_until != NOT_LIVE
    assert not story.hub._resume._catch_ups
    return received


def seqs_of(events: list[Event]) -> list[tuple[int, str]]:
    found = []
    for event in events:
        eid = EventId.parse(event.id or "")
        if event.type == "message" and eid is not None:
            found.append((eid.seq, event.data.split()[0]))
    return found


@settings(max_examples=60, deadline=None)
@given(script=st.lists(steps | publish_wide, min_size=20, max_size=60), room=rooms)
def test_each_event_of_a_channel_comes_once_and_in_order_whenever_it_was_added(
    script: list[tuple[Any, ...]], room: int | None
) -> None:
    story = Story(10_000, room)
    events = play(story, script)
    assert not [event for event in events if event.type != "message"], "no gap"
    received = seqs_of(events)
    for channel in CHANNELS:
        mine = [seq for seq, name in received if name == channel]
        assert mine == sorted(set(mine)), channel
    for channel, start in story.starts.items():
        due = {seq for seq, name in story.published if name == channel and seq > start}
        assert due <= {seq for seq, _ in received}, channel
    live = [seq for seq, _ in received if seq > story.last_add]
    assert all(earlier < later for earlier, later in pairwise(live)), "the past comes before what is live"
    delivered = len(received) + sum(len(each.data) for each in story.crowd)
    assert story.hub.counters.deliveries == delivered


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(steps | gap, min_size=20, max_size=60),
    room=rooms,
)
@example(  # the event that the history drops last is before the end of a gap that was reported
    script=[
        ("publish", "a", 1, 0, False),
        *[("turn",)] * 4,
        ("add", "b", None),
        ("publish", "a", 3, 0, False),
        ("publish", "d", 1, 0, False),
        ("add", "d", 0),
        ("remove", "b"),
        ("publish", "d", 2, 0, False),
        ("gap", "d"),
        ("add", "b", 0),
        ("turn",),
        ("publish", "d", 2, 0, False),
        ("turn",),
    ],
    room=None,
)
def test_what_cannot_be_sent_of_an_added_channel_is_reported(
    script: list[tuple[Any, ...]], room: int | None
) -> None:
    story = Story(3, room)
    events = play(story, script)
    places: dict[int, int] = {}
    gaps: list[tuple[int, set[str]]] = []
    for place, event in enumerate(events):
        if event.type == "message":
            ((seq, _),) = seqs_of([event])
            assert seq not in places, "each event comes once"
            places[seq] = place
        else:
            gaps.append((place, set(json.loads(event.data)["channels"])))
    delivered = len(places) + sum(data[0] != "{" for each in story.crowd for data in each.data)
    assert story.hub.counters.deliveries == delivered
    for channel, start in story.starts.items():
        due = [seq for seq, name in story.published if name == channel and seq > start]
        for number, seq in enumerate(due):
            if seq in places:
                continue
            before = max((places[each] for each in due[:number] if each in places), default=-1)
            after = min((places[each] for each in due[number:] if each in places), default=len(events))
            is_reported = seq <= story.lost.get(channel, 0)  # by a gap that may be before other events
            told = [place for place, names in gaps if channel in names and place < after]
            assert any(is_reported or before < place for place in told), channel
