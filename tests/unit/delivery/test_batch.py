"""The bytes that clients share of some events."""

from __future__ import annotations

import tracemalloc

import pytest

from cyclone_sse.delivery.batch import RENDERED_BYTES, Batch
from cyclone_sse.delivery.client import Client
from cyclone_sse.delivery.events import Event, EventId, encode


def event(n: int, *channels: str) -> Event:
    eid = EventId.of(n, 0, "node")
    return Event(eid, encode(b"x", eid), channels)


def client(*channels: str, fields: bool = True) -> Client:
    made = Client()
    made.channels, made.fields = channels, fields
    return made


def names(data: bytes) -> list[str]:
    lines = data.decode().splitlines()
    return [line.removeprefix("channel: ") for line in lines if line.startswith("channel: ")]


def test_a_client_shares_the_frames_of_the_events() -> None:
    events = [event(1, "a", "b"), event(2, "b")]
    batch = Batch(events)
    rendering = batch.rendering_for(client("b", fields=False))
    assert rendering.data == events[0].frame + events[1].frame
    assert all(one is each.frame for one, each in zip(rendering.frames, events, strict=True))
    assert batch.seqs == (events[0].seq, events[1].seq)


def test_with_fields_each_event_names_the_channels_that_the_client_hears() -> None:
    batch = Batch([event(1, "a", "b"), event(2, "b"), event(3, "c", "a")])
    assert names(batch.rendering_for(client("b", "c", "d")).data) == ["b", "b", "c"]
    assert names(batch.rendering_for(client("b")).data[:30]) == ["b"]


def test_clients_that_hear_the_same_names_share_the_bytes_with_fields() -> None:
    batch = Batch([event(1, "a", "b"), event(2, "b")])
    one = batch.rendering_for(client("b", "own-1"))
    other = batch.rendering_for(client("own-2", "b"))
    assert one is other
    assert batch.rendering_for(client("a", "b")) is not one


def test_a_pattern_is_named_as_the_client_asked_for_it() -> None:
    matched = event(1, "news.it")
    matched.patterns = ("news.*",)
    assert names(Batch([matched]).rendering_for(client("news.*")).data) == ["news.*"]
    assert names(Batch([matched]).rendering_for(client("news.it")).data) == ["news.it"]


def test_the_names_of_one_event_are_found_from_the_clients_side() -> None:
    """A client of twenty channels costs twenty look-ups, not one for each channel of the event."""

    class Counted(tuple[str, ...]):
        walks = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counted.walks += 1
            return super().__iter__()

    one = event(1)
    one.channels = Counted(map(str, range(1000)))
    batch = Batch([one])
    for number in range(50):
        assert names(batch.rendering_for(client(str(number), "x", str(number + 1))).data) == [
            str(number),
            str(number + 1),
        ]
    assert Counted.walks <= 60, "for each rendering once, as it is made"


def test_with_fields_an_event_names_the_client_that_it_is_not_for() -> None:
    excluding, forging = event(1, "a"), event(2, "a")
    excluding.excluded, forging.excluded = "tab 1", "tab\nid: 9-0-node"
    batch = Batch([excluding, forging])
    data = batch.rendering_for(client("a")).data
    assert data.startswith(b"channel: a\nexcept: tab 1\nid: 1-0-node\n")
    assert data.count(b"except") == 1
    assert b"except" not in batch.rendering_for(client("a", fields=False)).data


@pytest.mark.parametrize("events", [1, 2])
def test_a_large_event_for_very_many_channels_is_not_kept_once_for_each(events: int) -> None:
    channels = [str(number) for number in range(50)]
    large = [
        Event(EventId.of(n, 0, "node"), b"data: %b\n\n" % (b"x" * 1_000_000), channels) for n in range(events)
    ]
    tracemalloc.start()
    try:
        batch = Batch(large)
        for name in channels:
            assert names(batch.rendering_for(client(name)).data[:20]) == [name]
        assert tracemalloc.get_traced_memory()[1] < 2 * RENDERED_BYTES + 3_000_000 * events
    finally:
        tracemalloc.stop()
