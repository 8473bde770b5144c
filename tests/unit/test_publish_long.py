"""Long bodies, large batches and very many channels are published in slices, within bounds."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from cyclone_sse.delivery.kinds import Kind, Kinds
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.publish import CHECKED_AT_ONCE
from cyclone_sse.slices import MANY
from tests.unit.delivery.clients import turns
from tests.unit.http.peer import FORM, JSON, LINES, MemoryServer


def test_a_long_body_without_the_key_is_not_read() -> None:
    server = MemoryServer({"http-secret": "secret", "max-batch": 1 << 20})
    for kind, body in (
        (LINES, b"1\n" * 50_000),
        (JSON, b"[" + b"{}," * 50_000 + b"{}]"),
        (FORM, b"%41" * 50_000),
    ):
        client = server.connect("POST", "/publish", kind, body=body, turn=False)
        assert b"HTTP/1.1 401 " in client.value(), "at once"
        assert b"the key is missing" in client.value()
        assert not server.connections.slices


@pytest.mark.parametrize("kind", [FORM, JSON, LINES])
def test_the_key_is_found_in_a_long_body(kind: str) -> None:
    server = MemoryServer({"http-secret": "secret"})
    client = server.connect("GET", "/?channels=a")
    message = "x" * 500_000
    event = {"channel": "a", "message": message, "key": "secret"}
    body = urlencode(event) if kind is FORM else json.dumps(event)
    assert server.request("POST", "/publish", kind, body=body.encode())[0] == 200
    assert client.events == [message]
    wrong = body.replace("secret", "wrong!").encode()
    assert server.request("POST", "/publish", kind, body=wrong)[0] == 401


def test_a_long_batch_is_read_and_checked_in_turns() -> None:
    server = MemoryServer()
    watching = server.connect("GET", "/?channels=a")
    events = [{"channel": "a", "message": str(number)} for number in range(3000)]
    publisher = server.connect("POST", "/publish", JSON, body=json.dumps(events).encode(), turn=False)
    turns = 0
    while not publisher.value():
        assert server.publish("b", "others are served meanwhile") == 200
        server.clock.turn()
        turns += 1
    assert turns > 1  # of five each
    assert json.loads(publisher.value().partition(b"\r\n\r\n")[2])["status"] == "ok"
    server.turn()
    assert watching.events == [str(number) for number in range(3000)]


def test_a_long_event_is_read_understood_and_published_each_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = MemoryServer()
    done: list[str] = []
    understand, publish = Publication.from_json, server.broker.publish_all

    def from_json(value: object) -> Publication:
        done.append("understood")
        return understand(value)

    def publish_all(publications: Any) -> Any:
        done.append("published")
        return publish(publications)

    monkeypatch.setattr(Publication, "from_json", from_json)
    monkeypatch.setattr(server.broker, "publish_all", publish_all)
    body = json.dumps({"channel": [f"user-{number}" for number in range(10_000)], "message": "x"}).encode()
    client = server.connect("POST", "/publish", JSON, body=body, turn=False)
    server.clock.turn()  # the reactor's calls of the same turn
    assert done == []
    server.clock.turn()
    assert done == ["understood"]
    server.clock.turn()
    assert done == ["understood", "published"]
    turns(server.clock)
    assert b'"status": "ok"' in client.value()


@pytest.mark.parametrize("events", [1, 50])
def test_the_kinds_of_many_channels_are_looked_up_in_slices(events: int) -> None:
    server = MemoryServer({"http-secret": "secret"})
    kinds = server.broker.hub.kinds = Kinds([Kind("user-*", max_message=5)])
    looked_up = [0]
    find = kinds.of

    def of(channel: str) -> Kind:
        looked_up[-1] += 1
        return find(channel)

    names = [[f"user-{event}-{number}" for number in range(10_000 // events)] for event in range(events)]
    body = json.dumps([{"channel": each, "message": "x" * 6, "key": "secret"} for each in names]).encode()
    kinds.of = of  # type: ignore[method-assign]
    refused = server.connect("POST", "/publish", JSON, body=body, turn=False)
    fine = server.connect("POST", "/publish", JSON, body=body.replace(b"x" * 6, b"x"), turn=False)
    for _ in range(100):
        looked_up.append(0)
        server.clock.turn()
    assert b" 413 " in refused.value()
    assert b" 200 " in fine.value()
    assert max(looked_up) <= CHECKED_AT_ONCE + MANY


def test_a_batch_has_so_many_events_at_most() -> None:
    server = MemoryServer({"max-batch": 2})
    for count, status in ((2, 200), (3, 413)):
        events = [{"channel": "a", "message": "x"}] * count
        assert server.request("POST", "/publish", JSON, body=json.dumps(events).encode())[0] == status
        lines = "\n".join(map(json.dumps, events)).encode()
        assert server.request("POST", "/publish", LINES, body=lines)[0] == status
