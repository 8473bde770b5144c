"""What `--check=1` says would be done; that it finds mistakes is tested against the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.daemon.check import plan
from cyclone_sse.options import with_defaults


def planned(*addresses: str, **given: Any) -> list[str]:
    options = with_defaults({name.replace("_", "-"): value for name, value in given.items()})
    return list(plan(options, list(addresses)))


def test_by_default_any_client_may_do_all() -> None:
    lines = planned("http://127.0.0.1:8888/")
    assert lines[:3] == [
        "would serve http://127.0.0.1:8888/",
        "broker: http; application: the built-in one",
        "history: 100 events for each channel, for 300 s, in memory",
    ]
    assert lines[3:5] == ["subscribing: any client", "publishing by HTTP: any client"]


def test_what_is_given_is_said_and_no_secret_is() -> None:
    lines = planned(
        "systemd:domain=INET:index=0",
        workers=4,
        broker="redis-stream",
        http_secret="geheim",
        jwt_secret="x" * 32,
        export="graphite",
        export_host="graphite.example",
    )
    text = "\n".join(lines)
    assert "geheim" not in text
    assert "x" * 32 not in text
    assert "systemd:domain=INET:index=0" in lines[0]
    assert "redis-stream with 4 workers" in lines[1]
    assert "in the Redis stream" in lines[2]
    assert "subscribing: with --jwt-secret" in lines
    assert "publishing by HTTP: with --http-secret or --jwt-secret" in lines
    assert any(line.startswith("exports to graphite.example:") for line in lines)


@pytest.mark.parametrize("broker", ["redis", "amqp"])
def test_where_messages_come_from_the_broker_no_client_publishes_by_http(broker: str) -> None:
    assert "publishing by HTTP: no client (--http-publish=1 enables it)" in planned(broker=broker)
    assert "publishing by HTTP: any client" in planned(broker=broker, http_publish=True)


def test_what_lies_open_is_warned_of() -> None:
    assert any(line.startswith("warning: ") for line in planned(listen="0.0.0.0"))
