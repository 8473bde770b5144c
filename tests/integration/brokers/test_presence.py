"""The members of a channel are the same on every server that shares the broker."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, request
from tests.harness.process import until
from tests.harness.servers import SseServer
from tests.harness.upstreams import Upstream
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET, token

GRACE = 3


@pytest.fixture(params=["redis", "redis-stream", "amqp"])
def broker(request: pytest.FixtureRequest) -> str:
    """Each broker that carries orders."""
    return str(request.param)


@pytest.fixture
def options(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> list[str]:
    """The options of servers that share a broker."""
    upstream: Upstream = request.getfixturevalue("rabbit" if broker == "amqp" else "redis")
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    own = [f"--channels={kinds}", f"--presence-grace={GRACE}", f"--jwt-secret={SECRET}", "--http-secret=key"]
    return [*upstream.options, f"--broker={broker}", "--drain=0", *own]


def join(server: SseServer, user: str, room: str = "room-1") -> Subscriber:
    """A member's stream."""
    bearer = {"Authorization": f"Bearer {token(subscribe=['*'], sub=user)}"}
    return Subscriber(server.url, room, query={"presence": "1"}, headers=bearer).wait_open()


def members(server: SseServer, room: str = "room-1") -> set[str]:
    """The members, as the server has them."""
    url = f"{server.url}/presence?channel={room}"
    answer = request("GET", url, headers={"Authorization": "Bearer key"})
    assert answer.status == 200, answer.body
    return set(answer.json["members"])


def left_until(client: Subscriber, user: str) -> list[str]:
    """The users who leave according to the client's events, up to this one."""
    found: list[str] = []
    while user not in found:
        found += json.loads(client.event().data).get("left", ())
    return found


def test_members_are_the_same_on_every_server(serve: Serve, options: list[str]) -> None:
    with ExitStack() as clients:
        one, two = serve(*options), serve(*options)
        clients.enter_context(join(one, "ann"))
        clients.enter_context(join(two, "bob"))
        clients.enter_context(join(two, "bob"))
        until(lambda: members(one) == members(two) == {"ann", "bob"}, "both servers know both")
        three = serve(*options)  # waits for their reports, but no longer than a second
        until(lambda: members(three) == {"ann", "bob"}, "a server that starts knows who is there")
        eve = clients.enter_context(join(three, "eve"))
        first = json.loads(eve.event().data)
        assert first["members"].keys() == {"ann", "bob", "eve"}
        until(lambda: "eve" in members(one), "the others know the third")


def test_a_server_that_stops_takes_no_member_with_it(serve: Serve, options: list[str]) -> None:
    one, two = serve(*options), serve(*options)
    with join(two, "bob") as bob, join(one, "ann") as ann, join(one, "eve") as eve:
        until(lambda: members(two) == {"ann", "bob", "eve"}, "all are known")
        stopped = time.monotonic()
        one.send_signal(signal.SIGTERM)
        ann.wait_end()
        eve.wait_end()
        with join(two, "ann"):
            in_time = time.monotonic() - stopped < GRACE
            one.wait()
            one.check_log()
            until(lambda: members(two) == {"ann", "bob"}, "eve left, who did not reconnect")
            left = left_until(bob, "eve")
            assert left == ["eve"] or not in_time


@pytest.mark.slow
def test_the_members_of_a_killed_server_leave_within_thirty_seconds(serve: Serve, options: list[str]) -> None:
    one, two = serve(*options), serve(*options)
    with join(one, "ann"), join(two, "bob"):
        until(lambda: members(two) == {"ann", "bob"}, "all are known")
        one.kill()
        killed = time.monotonic()
        until(lambda: members(two) == {"bob"}, "ann has left")
        assert time.monotonic() - killed < 45
