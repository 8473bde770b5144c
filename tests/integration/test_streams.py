"""Subscribe, publish and resume over real sockets, with our own client and with httpx-sse."""

from __future__ import annotations

import json
import random
import threading

import httpx
import httpx_sse
import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve

TEXTS = [
    "x",
    "0",
    " leading space",
    "two\nlines",
    "two\r\nlines and\rthree\n",
    "\n",
    "data: not a field",
    "id: 7\nevent: trap\nretry: 1",
    ": no comment",
    "\0",
    "\ufeffmark",
    "line\u2028separator\x85and\x0bothers",
    "\N{PILE OF POO} é \U0010ffff",
    '{"json": [1, 2.50, null]}',
    "y" * 1_000_000,
    "é\n" * 200_000,
]


@pytest.mark.parametrize("form", [True, False])
def test_any_text_arrives(server: SseServer, form: bool) -> None:
    with (
        httpx.Client(timeout=PATIENCE) as client,
        httpx_sse.connect_sse(client, "GET", f"{server.url}/", params={"channels": "base"}) as source,
    ):
        events = source.iter_sse()
        for text in TEXTS:
            if form and len(text.encode()) < 500_000:
                answer = client.post(f"{server.url}/publish", data={"channel": "base", "message": text})
            else:
                body = json.dumps({"channel": "base", "message": text}, ensure_ascii=False).encode()
                answer = client.post(
                    f"{server.url}/publish", content=body, headers={"Content-Type": "application/json"}
                )
            assert (answer.status_code, answer.json()["status"]) == (200, "ok")
            got = next(events)
            assert got.event == "message"
            assert got.data == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "name", ["two words", " ", "a/b", "a,b", "a&b=c", "новости", "*", "\0", "é\n", "x" * 254]
)
def test_any_name_is_a_channel(server: SseServer, name: str) -> None:
    with Subscriber(server.url, name) as subscriber, Subscriber(server.url, name + "x") as other:
        publish(server.url, name, "1")
        publish(server.url, name + "x", "2")
        assert subscriber.data(1) == ["1"]
        assert other.data(1) == ["2"]
        assert [name, 1] in request("GET", f"{server.url}/stats").json


def test_the_exact_bytes(server: SseServer) -> None:
    with Subscriber(server.url) as subscriber:
        publish(server.url, "base", "[123, 124]")
        event = subscriber.event()
        assert subscriber.body == f"\n\nid: {event.id}\ndata: [123, 124]\n\n".encode()
        assert subscriber.headers["content-type"] == "text/event-stream"
        assert subscriber.headers["access-control-allow-origin"] == "*"


def test_a_ping_after_silence(serve: Serve) -> None:
    server = serve("--ping-interval=0.3", "--retry=700")
    with Subscriber(server.url) as subscriber:
        assert subscriber.wait_comment() == "sse ping"
        assert 350 <= (subscriber.parser.retry or 0) <= 1050
    with Subscriber(server.url, headers={"X-Requested-With": "XMLHttpRequest"}) as poll:
        assert poll.wait_end().endswith(b": sse ping\n\n")


def test_a_client_that_is_cut_off_repeatedly_misses_nothing(serve: Serve) -> None:
    count = 300
    server = serve(f"--history-size={count}")  # perhaps all is published before the client is back
    dice = random.Random(1)

    def publish_all() -> None:
        for number in range(count):
            publish(server.url, "ab"[number % 2], str(number))

    publisher = threading.Thread(target=publish_all, daemon=True)
    subscriber = Subscriber(server.url, ["a", "b"]).wait_open()
    position = subscriber.headers["last-event-id"]
    publisher.start()
    got: list[str] = []
    while len(got) < count:
        got += subscriber.data(min(dice.randrange(1, 20), count - len(got)))
        # The client resumes after the last event that it has read; without this, events that it has
        # received but not read would be missing from `got`.
        unseen = subscriber.pending()
        position = subscriber.last_event_id
        if unseen:
            got += [event.data for event in unseen]
        subscriber.close()
        subscriber = Subscriber(server.url, ["a", "b"], last_event_id=position).wait_open()
    publisher.join()
    subscriber.close()
    assert got == [str(number) for number in range(count)]


@pytest.mark.parametrize(
    ("last_id", "gap"), [("nonsense", True), ("1-0-other", True), ("earliest", False), ("{own}", False)]
)
def test_what_is_held_is_sent_and_a_gap_told(server: SseServer, last_id: str, gap: bool) -> None:
    with Subscriber(server.url) as before:
        for number in range(3):
            publish(server.url, "base", str(number))
        first = before.events(3)[0]
    came_with = last_id.format(own=first.id)
    with Subscriber(server.url, last_event_id=came_with) as back:
        if gap:
            told = back.event()
            assert (told.type, json.loads(told.data)) == ("sse-gap", {"channels": ["base"]})
        assert back.data(2 if "own" in last_id else 3)[-1] == "2"
    with Subscriber(server.url, query={"lastEventId": came_with}) as back:
        assert back.events(2)


def test_a_restart_is_told(serve: Serve) -> None:
    server = serve()
    with Subscriber(server.url) as before:
        publish(server.url, "base", "1")
        came_with = before.event().id
    server.restart()
    with Subscriber(server.url, last_event_id=came_with) as back:
        assert back.event().type == "sse-gap"
        publish(server.url, "base", "2")
        assert back.data(1) == ["2"]


def test_cors_with_a_list(serve: Serve) -> None:
    server = serve("--cors-origin=https://a.example", "--cors-origin=https://b.example")
    with Subscriber(server.url, headers={"Origin": "https://b.example"}) as subscriber:
        assert subscriber.headers["access-control-allow-origin"] == "https://b.example"
        assert subscriber.headers["access-control-allow-credentials"] == "true"
        assert subscriber.headers["vary"].startswith("Origin, ")
    preflight = request("OPTIONS", f"{server.url}/", headers={"Origin": "https://evil.example"})
    assert preflight.status == 204
    assert "access-control-allow-origin" not in {name.lower() for name in preflight.headers}
