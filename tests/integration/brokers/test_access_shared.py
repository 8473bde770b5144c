"""Ending streams and publishing types where several servers share a broker."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.harness.clients import Response, Subscriber, publish, request
from tests.harness.servers import SseServer
from tests.harness.upstreams import Upstream
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET, token

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BEARER = {"Authorization": "Bearer KEY", "Content-Type": "application/json"}


@pytest.fixture(params=["redis", "redis-stream", "amqp"])
def shared(request: pytest.FixtureRequest) -> list[str]:
    """The options of servers that share a broker, and publish by it."""
    name: str = request.param
    upstream: Upstream = request.getfixturevalue("rabbit" if name == "amqp" else "redis")
    return [*upstream.options, f"--broker={name}", "--http-publish=1", "--http-secret=KEY"]


def order(server: SseServer, **fields: str) -> Response:
    """POST /disconnect with these fields and the key."""
    return request("POST", f"{server.url}/disconnect", urlencode({**fields, "key": "KEY"}), FORM)


@pytest.mark.parametrize("whose", [{"user": "42"}, {"channel": "user-42"}])
def test_disconnect_ends_the_streams_of_all_servers(
    serve: Serve, shared: list[str], whose: dict[str, str]
) -> None:
    options = [*shared, f"--jwt-secret={SECRET}"]
    servers = [serve(*options), serve(*options)]
    with ExitStack() as stack:

        def enter(server: SseServer, user: str) -> Subscriber:
            query = {"access_token": token(sub=user, subscribe=[f"user-{user}"])}
            return stack.enter_context(Subscriber(server.url, f"user-{user}", query=query))

        theirs = [enter(server, "42") for server in servers]
        others = [enter(server, "43") for server in servers]
        answer = order(servers[0], **whose)
        assert (answer.status, answer.json) == (200, {"status": "ok", "streams": 1})
        for client in theirs:
            client.wait_end()
        # The clients of user 42 reconnect and are authorised again; those of user 43 stay connected.
        back = [enter(server, "42") for server in servers]
        publish(servers[0].url, "user-42", "back", "KEY")
        publish(servers[1].url, "user-43", "never gone", "KEY")
        assert [client.data(1) for client in back] == [["back"]] * 2
        assert [client.data(1) for client in others] == [["never gone"]] * 2


def test_a_second_attempt_with_the_same_key_does_not_count_against_the_rate(
    serve: Serve, shared: list[str], tmp_path: Path
) -> None:
    rules = tmp_path / "channels.toml"
    rules.write_text('["room-*"]\npublish_rate = 0.01\n')
    server = serve(*shared, f"--jwt-secret={SECRET}", f"--channels={rules}")
    headers = {**FORM, "Authorization": f"Bearer {token(sub='42', publish=['*'])}"}

    def attempt(key: str) -> int:
        form = f"channel=room-1&message=x&idempotency_key={key}"
        return request("POST", f"{server.url}/publish", form, headers).status

    assert [attempt(key) for key in ("1", "1", "2", "1")] == [200, 200, 429, 200]


def test_a_type_travels_or_is_refused_by_name(serve: Serve, shared: list[str]) -> None:
    server = serve(*shared)
    has_no_place = "--broker=redis" in shared[-3:]
    event = {"channel": "a", "message": {"n": 1}, "event": "news"}
    with Subscriber(server.url, "a") as client:
        answer = request("POST", f"{server.url}/publish", json.dumps(event), BEARER)
        if has_no_place:
            assert answer.status == 400
            assert "event" in answer.json["reason"]
            batch = [{"channel": "a", "message": "first"}, event]
            assert request("POST", f"{server.url}/publish", json.dumps(batch), BEARER).status == 400
            del event["event"]
            assert request("POST", f"{server.url}/publish", json.dumps(event), BEARER).status == 200
        else:
            assert answer.status == 200
        got = client.event()
        assert got.data == '{"n":1}'
        assert got.type == ("message" if has_no_place else "news")


def test_no_client_receives_the_orders_of_other_servers(serve: Serve, upstream: Upstream) -> None:
    """Not even with a pattern for everything."""
    options = [*upstream.options, "--http-secret=KEY"]
    if upstream.name == "redis":
        options.append("--patterns=1")
    servers = [serve(*options), serve(*options)]
    with Subscriber(servers[0].url, ["*", "last"]) as client:
        assert order(servers[1], user="a secret name").json["streams"] == 0
        upstream.publish("last", "the last")
        assert client.data(1) == ["the last"]
        assert b"a secret name" not in client.body
