"""A master that dies: the sentinels make its replica the master, and all goes on there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import free_port, until
from tests.harness.servers import RedisServer
from tests.integration.brokers.test_faults import FORM
from tests.integration.conftest import Serve


class Sentinel(RedisServer):
    """A sentinel that watches a master, and is alone to decide."""

    name = "sentinel"

    def __init__(self, directory: Path, master: RedisServer, name: str) -> None:
        super().__init__(directory)
        self.config = directory / "sentinel.conf"
        self.config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {name} 600000\nsentinel failover-timeout {name} 3000\n"
        )

    def argv(self) -> list[str]:
        return [self.program, str(self.config), "--sentinel"]

    def is_ready(self) -> bool:
        return "+monitor master" in self.log_of_this_run

    def notice(self, name: str) -> None:
        """From now on, take a master for dead after half a second: before this, it may only be slow."""
        self.command("SENTINEL", "SET", name, "down-after-milliseconds", "500")


class Replica(RedisServer):
    name = "replica"


@pytest.fixture
def redises(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    """A master, its replica, and a sentinel that knows both."""
    with RedisServer(tmp_path) as master:
        replica = Replica(
            tmp_path, "--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0"
        )
        with replica, Sentinel(tmp_path, master, "cache") as sentinel:
            until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
            until(lambda: b"num-slaves\r\n$1\r\n1" in sentinel.command("SENTINEL", "MASTER", "cache"))
            yield master, replica, sentinel


@pytest.mark.parametrize("broker", ["redis", "redis-stream"])
def test_a_failover_is_followed(
    serve: Serve, redises: tuple[RedisServer, RedisServer, Sentinel], broker: str
) -> None:
    master, replica, sentinel = redises
    unused = free_port()
    server = serve(
        f"--broker={broker}",
        f"--redis-sentinel=127.0.0.1:{unused},127.0.0.1:{sentinel.port}",
        "--redis-sentinel-name=cache",
        "--http-publish=1",
    )
    with Subscriber(server.url, "base") as client:
        publish(server.url, "base", "before")
        assert client.event().data == "before"
        if broker == "redis-stream":  # what is on its way to the replica is lost with the master
            until(lambda: b"before" in replica.command("XRANGE", "cyclone-sse", "-", "+"))
        master.kill()
        sentinel.notice("cache")
        form = "channel=base&message=after"
        until(lambda: request("POST", f"{server.url}/publish", form, FORM).status == 200)
        event = client.event()
        if broker == "redis":
            assert event.type == "sse-gap"  # pub/sub keeps nothing
            until(lambda: request("POST", f"{server.url}/publish", form, FORM).status == 200)
            event = client.event()
        assert event.data == "after"
        assert b"role:master" in replica.command("INFO", "replication")


def test_a_master_that_no_sentinel_knows_is_one_line(
    serve: Serve, redises: tuple[RedisServer, RedisServer, Sentinel]
) -> None:
    sentinel = redises[2]
    server = serve("--broker=redis", f"--redis-sentinel=127.0.0.1:{sentinel.port}")
    until(lambda: "it does not know the master 'mymaster'" in server.log)
    assert server.log.count("cannot reach") == 1
