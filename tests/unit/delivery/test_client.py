"""What the hub knows of any client: which bytes of an event are its own."""

from __future__ import annotations

from cyclone_sse.delivery.client import Client, State
from cyclone_sse.delivery.events import Event, EventId, encode


def event(n: int, *channels: str) -> Event:
    eid = EventId(n, 0, "node")
    return Event(eid, encode(b"x", eid), channels)


EVENTS = [event(1, "a", "b"), event(2, "b")]


def test_a_new_client_is_corked_and_hears_nothing_yet() -> None:
    client = Client()
    assert client.state is State.CORKED
    assert not client.skip_until < EVENTS[1].seq


def test_by_itself_it_gets_the_bytes_of_the_events() -> None:
    assert Client().rendered(EVENTS) == EVENTS[0].frame + EVENTS[1].frame


def test_who_wants_fields_is_told_those_of_its_channels() -> None:
    client = Client()
    client.fields, client.channels = True, ("b", "c")
    lines = client.rendered(EVENTS).decode().splitlines()
    assert [line for line in lines if line.startswith("channel")] == ["channel: b", "channel: b"]


def test_who_renders_for_himself_does() -> None:
    client = Client()
    client.render = lambda events: b"%d" % len(events)
    assert client.rendered(EVENTS) == b"2"
