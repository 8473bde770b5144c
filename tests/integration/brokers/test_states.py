"""The states of channels in Redis, over servers that start later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness.clients import publish, request
from tests.harness.process import until
from tests.harness.servers import RedisServer, SseServer
from tests.integration.brokers.test_faults import FORM
from tests.integration.conftest import Serve

JSON = {"Content-Type": "application/json"}


def state(server: SseServer, channel: str) -> Any:
    """The data of the channel's state; None if it has none."""
    answer = request("GET", f"{server.url}/state?channel={channel}")
    assert answer.status == 200
    return answer.json.get(channel, {}).get("data")


def keep(server: SseServer, channel: str, message: str) -> None:
    body = f"channel={channel}&message={message}&keep=1"
    assert request("POST", f"{server.url}/publish", body, FORM).status == 200


def test_states_are_the_same_on_all_servers(serve: Serve, redis_server: RedisServer) -> None:
    options = ["--broker=redis-stream", f"--redis-port={redis_server.port}"]
    here = serve(*options)
    keep(here, "a", "1")
    keep(here, "b", "kept")
    keep(here, "a", "2")
    redis_server.command("XADD", "cyclone-sse", "*", "channel", "c", "message", "foreign", "keep", "1")
    until(lambda: state(here, "c") == "foreign")
    until(lambda: b"foreign" in redis_server.command("HGET", "cyclone-sse:state", "c"))
    redis_server.command("XTRIM", "cyclone-sse", "MAXLEN", "0")
    there = serve(*options)
    assert [state(there, name) for name in "abcd"] == ["2", "kept", "foreign", None]
    assert request("POST", f"{there.url}/clear", "channel=a", FORM).status == 200
    until(lambda: state(here, "a") is None, "the state is cleared here, too")
    assert state(there, "a") is None
    until(lambda: redis_server.command("HGET", "cyclone-sse:state", "a") == b"$-1\r\n")
    keep(there, "a", "3")
    until(lambda: state(here, "a") == "3")
    publish(there.url, "b", "plain")
    assert state(serve(*options), "b") == "kept"


def test_what_was_published_before_it_is_cleared_stays_cleared(
    serve: Serve, redis_server: RedisServer
) -> None:
    options = ["--broker=redis-stream", f"--redis-port={redis_server.port}"]
    here, there = serve(*options), serve(*options)
    names = [f"c{n}" for n in range(40)]
    for n, name in enumerate(names):
        keep((here, there)[n % 2], name, "x")
        assert request("POST", f"{here.url}/clear", f"channel={name}", FORM).status == 200
        assert state(here, name) is None
    wide = [word for n in range(1200) for word in ("channel", f"w{n}")]
    redis_server.command("XADD", "cyclone-sse", "*", *wide, "message", "last", "keep", "1")
    until(lambda: state(there, "w1199") == state(here, "w0") == "last")
    until(lambda: redis_server.command("HLEN", "cyclone-sse:state") == b":1200\r\n")
    for server in (here, there, serve(*options)):
        assert [name for name in names if state(server, name) is not None] == []
        assert state(server, "w600") == "last"


@pytest.mark.parametrize("older", ["9-5", "18446744073709551614-0"])
def test_the_newest_id_wins(serve: Serve, redis_server: RedisServer, older: str) -> None:
    newer = {"9-5": "10-1", "18446744073709551614-0": "18446744073709551614-1"}[older]
    redis_server.command("HSET", "cyclone-sse:state", "a", f"{newer}\n\nnewest")
    server = serve("--broker=redis-stream", f"--redis-port={redis_server.port}")
    redis_server.command("XADD", "cyclone-sse", older, "channel", "a", "message", "old", "keep", "1")
    redis_server.command("XADD", "cyclone-sse", f"{older[:-1]}9", "channel", "b", "message", "x")
    until(lambda: state(server, "a") == "newest")
    assert b"newest" in redis_server.command("HGET", "cyclone-sse:state", "a")


@pytest.mark.parametrize("forbidden", ["hset", "set"])
def test_who_cannot_finish_says_that_an_event_may_be_out(
    serve: Serve, redis_server: RedisServer, forbidden: str
) -> None:
    server = serve("--broker=redis-stream", f"--redis-port={redis_server.port}")
    redis_server.command("ACL", "SETUSER", "default", f"-{forbidden}")
    content = {"channel": "a", "message": "x", "keep": True, "idempotency_key": "k"}
    answer = request("POST", f"{server.url}/publish", json.dumps([content]), JSON)
    assert (answer.status, answer.json["published"]) == (503, "unknown")
    assert redis_server.command("XLEN", "cyclone-sse") == b":1\r\n"
    redis_server.command("ACL", "SETUSER", "default", "-xadd")
    answer = request("POST", f"{server.url}/publish", json.dumps({**content, "idempotency_key": "l"}), JSON)
    assert (answer.status, answer.json["published"]) == (503, False)
