"""What the clients ask about channels, and what they keep and withhold: members, states, ttl and except."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclone_sse_client import Publisher, State, make_token

from tests.harness.clients import Subscriber
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.integration.clients.test_php import call
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET


def test_the_members_of_a_channel(serve: Serve, tmp_path: Path) -> None:
    rules = tmp_path / "channels.toml"
    rules.write_text('["room-*"]\npresence = true\n')
    server = serve(f"--channels={rules}", f"--jwt-secret={SECRET}", "--http-secret=KEY")
    token = make_token(SECRET, ["room-*"], user=42, info={"name": "Ann"})
    with (
        Subscriber(server.url, "room-1", headers={"Authorization": f"Bearer {token}"}),
        Publisher(server.url, "KEY") as publisher,
    ):

        def members() -> Any:
            return publisher.presence("room-1")["members"]

        until(members, "the member")
        assert members()["42"]["info"] == {"name": "Ann"}
        asked = call(tmp_path, server.url, "$publisher->presence('room-1')", "KEY")
        assert list(asked["members"]) == ["42"]


def test_states_are_read_and_cleared(server: SseServer, tmp_path: Path) -> None:
    with Publisher(server.url) as publisher:
        done = publisher.publish(["a", "b"], {"n": 1}, keep=True, event="greeting")
        publisher.publish("a", "later")
        states = publisher.state(["a", "b", "c"])
        assert states == dict.fromkeys(("a", "b"), State(done.id or "", "greeting", '{"n":1}'))
        assert states["a"].json == {"n": 1}
        asked = call(tmp_path, server.url, "$publisher->state(['a', 'c'])")
        assert asked == {"a": {"id": done.id, "event": "greeting", "data": '{"n":1}'}}
        with Subscriber(server.url, ["a"], query={"state": "1"}) as client:
            assert client.event().id == done.id
        publisher.clear("a")
        assert list(publisher.state(["a", "b"])) == ["b"]


def test_not_to_the_sender_and_not_kept(server: SseServer, tmp_path: Path) -> None:
    with (
        Subscriber(server.url, "a", query={"client": "tab-1"}) as sender,
        Subscriber(server.url, "a") as other,
        Publisher(server.url) as publisher,
    ):
        publisher.publish("a", "1", except_="tab-1", ttl=0)
        call(tmp_path, server.url, "$publisher->publish('a', '2', except: 'tab-1', ttl: 60)")
        publisher.publish("a", "3")
        assert other.data(3) == ["1", "2", "3"]
        assert sender.data(1) == ["3"]
    with Subscriber(server.url, "a", "earliest") as later:
        assert later.data(2) == ["2", "3"]
