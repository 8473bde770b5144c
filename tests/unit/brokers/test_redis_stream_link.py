"""What a connection for a stream sends, and what it makes of the answers."""

from __future__ import annotations

from functools import partial

import pytest
from twisted.internet.defer import Deferred

from cyclone_sse.brokers.redis_stream import RedisStreamBroker
from cyclone_sse.brokers.redis_stream_link import StreamLink
from tests.unit.brokers.redis_wire import Server, fate


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"$-1", None),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", "OOM command not allowed"),
        (b"-MISCONF Redis is configured to save RDB snapshots", "MISCONF Redis is configured"),
        (b"-NOREPLICAS Not enough good replicas to write.", "NOREPLICAS Not enough"),
        (b"-NOPERM this user has no permissions to run the 'xadd' command", "NOPERM this user"),
        (b"-NOPERM User app has no permissions to run the 'xadd' command", "NOPERM User app"),
        (b"-NOPERM No permissions to access a key", None),
        (b"-MOVED 1 127.0.0.1:1", None),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value", None),
    ],
)
def test_a_server_whose_redis_accepts_no_entries_is_not_ready(answer: bytes, failure: str | None) -> None:
    server = Server(kind=partial(StreamLink, "s", 100, 300.0))
    broker = RedisStreamBroker({})
    broker._publishing.failure = "that of an hour ago"
    broker._publishing.link = server.link
    checked = fate(Deferred.fromCoroutine(broker._check_upstream()))
    sent = server.read()
    assert b"NOMKSTREAM" in sent, "else this would be an entry"
    assert b"s:check" in sent
    server.send(answer + b"\r\n")
    assert checked == [None]
    assert (broker._publishing.failure or "").startswith(failure or "")
    assert (broker._publishing.failure is None) == (failure is None)
