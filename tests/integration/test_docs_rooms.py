"""What docs/rooms.md shows: its file of kinds, its commands, and the shape of what it says is sent."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import Subscriber, request
from tests.harness.docs import bodies, commands, write_shown
from tests.harness.patience import PATIENCE
from tests.harness.process import need, until
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import token

SERVE, ASK = commands("rooms.md")
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> SseServer:
    """The server of the page."""
    kinds = write_shown("rooms.md", "channels.toml", tmp_path, "toml")
    options = shlex.split(SERVE)[3:]
    assert options[0] == "--channels=channels.toml"
    return serve(f"--channels={kinds}", *options[1:], "--presence-grace=1")


def join(server: SseServer, user: str | None, info: object = None) -> Subscriber:
    given = token(SECRET, subscribe=["*"], sub=user, info=info)
    query = {"presence": "1", "access_token": given}
    return Subscriber(server.url, "room-7", query=query).wait_open()


def presence(client: Subscriber) -> dict[str, Any]:
    event = client.event()
    assert event.type == "sse-presence"
    told: dict[str, Any] = json.loads(event.data)
    return told


def test_members_as_the_page_says(server: SseServer) -> None:
    need("curl")
    with join(server, "42", {"name": "Ann"}) as ann:
        ann_42 = {"42": {"name": "Ann"}}
        assert presence(ann) == {"channel": "room-7", "members": ann_42, "anonymous": 0}
        with join(server, "43") as eve, join(server, None):
            assert presence(eve) == {"channel": "room-7", "members": {**ann_42, "43": {}}, "anonymous": 0}
            joined: dict[str, Any] = {}
            anonymous = 0
            while "43" not in joined or not anonymous:
                told = presence(ann)
                joined |= told["joined"]
                anonymous = told["anonymous"]
            assert joined["43"] == {}
        left: list[str] = []
        while left != ["43"]:
            told = presence(ann)
            left += told["left"]
        command = ASK.replace("localhost:8888", f"localhost:{server.port}")
        assert command != ASK
        asked = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=PATIENCE)
        answer = json.loads(asked.stdout)
        assert answer["channel"] == "room-7"
        assert answer["members"].keys() == {"42"}
        assert answer["members"]["42"]["info"] == {"name": "Ann"}
        assert answer["members"]["42"]["streams"] == 1
        assert answer["members"]["42"]["since"] > 1.7e9


def test_a_stranger_may_not_ask(server: SseServer) -> None:
    url = f"{server.url}/presence?channel=room-7"
    assert request("GET", url).status == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert request("GET", url, headers=wrong).status == 401
    other = token(SECRET, subscribe=["room-8"], sub="42")
    assert request("GET", f"{url}&access_token={other}").status == 403
    assert request("GET", f"{url}&access_token={token(SECRET, subscribe=['room-7'])}").status == 200


def post(server: SseServer, body: str) -> dict[str, Any]:
    headers = {"Authorization": "Bearer KEY", "Content-Type": "application/json"}
    answer = request("POST", f"{server.url}/publish", body, headers)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json
    return told


def shown_with(word: str, page: str = "rooms.md") -> str:
    (body,) = [body for body in bodies(page) if word in body]
    return body


def test_the_state_as_the_page_says(server: SseServer) -> None:
    state_id = post(server, shown_with('"keep"'))["id"]
    post(server, '{"channel": "room-7", "message": "later"}')
    state = request("GET", f"{server.url}/state?channel=room-7", headers={"Authorization": "Bearer KEY"})
    assert state.json["room-7"]["id"] == state_id
    assert json.loads(state.json["room-7"]["data"]) == {"topic": "Tea"}
    query = {"state": "1", "access_token": token(SECRET, subscribe=["*"])}
    with Subscriber(server.url, "room-7", query=query) as client:
        event = client.event()
        assert (event.id, event.data) == (state_id, '{"topic":"Tea"}')
        post(server, shown_with('"ttl"'))
        assert client.event().type == "typing"
    form = {"Authorization": "Bearer KEY", "Content-Type": "application/x-www-form-urlencoded"}
    assert request("POST", f"{server.url}/clear", "channel=room-7", form).status == 200
    state = request("GET", f"{server.url}/state?channel=room-7", headers={"Authorization": "Bearer KEY"})
    assert state.json == {}


def test_a_typing_event_is_for_those_who_are_there(server: SseServer) -> None:
    post(server, shown_with('"ttl"'))
    kept = post(server, '{"channel": "room-7", "message": "hello"}')["id"]
    query = {"lastEventId": "earliest", "access_token": token(SECRET, subscribe=["*"])}
    with Subscriber(server.url, "room-7", query=query) as client:
        assert client.event().id == kept


def test_a_client_can_be_left_out(server: SseServer) -> None:
    access = {"access_token": token(SECRET, subscribe=["*"])}
    with (
        Subscriber(server.url, "room-7", query={"client": "me", **access}) as sender,
        Subscriber(server.url, "room-7", query=access) as other,
    ):
        post(server, '{"channel": "room-7", "message": "mine", "except": "me"}')
        post(server, '{"channel": "room-7", "message": "all"}')
        assert other.data(2) == ["mine", "all"]
        assert sender.data(1) == ["all"]


def test_the_same_key_publishes_once(server: SseServer) -> None:
    body = shown_with('"idempotency_key"', "publishing.md")
    assert post(server, body)["ids"] == post(server, body)["ids"]


@pytest.mark.slow
def test_a_burst_of_a_thousand_costs_each_member_ten_events_at_most(server: SseServer) -> None:
    clients = []
    began = time.monotonic()
    try:
        for number in range(1000):
            clients.append(join(server, str(number)))
        first = clients[0]
        counted, here = 0, set(presence(first)["members"])
        while len(here) < 1000:
            told = presence(first)
            counted += 1
            here |= set(told["joined"])
        assert counted <= time.monotonic() - began + 2, "one a second, however long the joins take"
        last = presence(clients[-1])
        assert len(last["members"]) == 1000
        until(lambda: len(request_members(server)) == 1000, "all members")
    finally:
        for client in clients:
            client.close()
    until(lambda: not request_members(server), "the end of all")


def request_members(server: SseServer) -> list[str]:
    answer = request("GET", f"{server.url}/presence?channel=room-7", headers={"Authorization": "Bearer KEY"})
    return list(answer.json["members"])
