"""The server behind a broker changes without a lost connection: it is noticed, clients receive a gap."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, request
from tests.harness.forwarder import Forwarder
from tests.harness.process import free_port, until
from tests.harness.servers import RedisServer, SseServer
from tests.harness.upstreams import EXCHANGE, RabbitUpstream
from tests.integration.brokers.test_faults import FORM
from tests.integration.brokers.test_sentinel import Replica
from tests.integration.conftest import Serve


def post(server: SseServer, message: str, key: str | None = None) -> tuple[int, dict[str, object]]:
    """Status and JSON of a POST to the channel base."""
    headers = {**FORM, **({"Idempotency-Key": key} if key else {})}
    answer = request("POST", f"{server.url}/publish", f"channel=base&message={message}", headers)
    return answer.status, json.loads(answer.body)


DELETIONS = {
    "queue": '[rabbit_amqqueue:delete(Q, false, false, <<"test">>) || Q <- rabbit_amqqueue:list()].',
    "bindings": '[rabbit_binding:remove(B, <<"test">>) || B <- rabbit_binding:list(<<"/">>), '
    'element(3, element(2, B)) =/= <<>>, element(4, element(2, B)) =:= <<"sse-cyclone-server">>].',
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["queue", "bindings", "exchange"])
def test_what_is_deleted_in_rabbitmq_is_noticed(serve: Serve, rabbit: RabbitUpstream, what: str) -> None:
    admin = free_port()
    server = serve(*rabbit.options, "--http-publish=1", f"--admin-port={admin}")
    with Subscriber(server.url, "base") as client:
        assert post(server, "1")[0] == 200
        assert client.event().data == "1"
        if what == "exchange":
            rabbit.channel().exchange_delete(EXCHANGE)
        else:
            rabbit.server.control("eval", DELETIONS[what])
        assert client.event().type == "sse-gap"
        until(lambda: request("GET", f"http://127.0.0.1:{admin}/readyz").status == 200)
        assert post(server, "2")[0] == 200
        assert client.event().data == "2"


def test_a_rabbitmq_that_is_short_of_memory_is_answered_at_once(serve: Serve, rabbit: RabbitUpstream) -> None:
    admin = free_port()
    server = serve(*rabbit.options, "--http-publish=1", f"--admin-port={admin}")
    with Subscriber(server.url, "base") as client:
        assert post(server, "1")[0] == 200
        rabbit.server.control("set_vm_memory_high_watermark", "0.000001")
        try:
            ready = f"http://127.0.0.1:{admin}/readyz"
            until(lambda: request("GET", ready).status == 503, "the alarm is known")
            status, answer = post(server, "never")
            assert (status, answer["published"]) == (503, False)
        finally:
            rabbit.server.control("set_vm_memory_high_watermark", "0.4")
        until(lambda: request("GET", ready).status == 200, "the alarm is over")
        assert post(server, "2")[0] == 200
        assert client.data(2) == ["1", "2"]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, Forwarder]]:
    """A master and its replica, behind one address."""
    with RedisServer(tmp_path) as master:
        replica = Replica(
            tmp_path, "--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0"
        )
        with replica, Forwarder(master.port) as address:
            until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
            yield master, replica, address


def data_until(client: Subscriber, last: str) -> list[str]:
    """The data of the messages up to this one; gaps are left out."""
    data: list[str] = []
    while not data or data[-1] != last:
        event = client.event()
        data += [event.data] if event.type == "message" else []
    return data


def publish_until_accepted(server: SseServer, message: str) -> None:
    until(lambda: post(server, message, f"once-{message}")[0] == 200, "it is accepted")


@pytest.mark.parametrize("broker", ["redis", "redis-stream"])
def test_a_planned_failover_behind_one_address_is_followed(
    serve: Serve, pair: tuple[RedisServer, RedisServer, Forwarder], broker: str
) -> None:
    old, new, address = pair
    server = serve(f"--broker={broker}", f"--redis-port={address.port}", "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        assert post(server, "1")[0] == 200
        assert client.event().data == "1"
        new.command("REPLICAOF", "NO", "ONE")
        address.target = new.port
        old.command("REPLICAOF", "127.0.0.1", str(new.port))  # it lives on, and keeps its connections
        until(lambda: reached(new), "it is followed")
        publish_until_accepted(server, "end")
        assert data_until(client, "end").count("end") == 1
        new.command("XADD", "cyclone-sse", "*", "channel", "base", "message", "at the new one")
        new.command("PUBLISH", "base", "at the new one")
        data_until(client, "at the new one")


def reached(redis: RedisServer) -> bool:
    """Whether clients other than this question and replicas are connected."""
    rows = redis.command("CLIENT", "LIST", "TYPE", "normal").splitlines()
    pubsub = redis.command("CLIENT", "LIST", "TYPE", "pubsub").splitlines()
    return sum(b"id=" in row for row in rows) > 1 or any(b"id=" in row for row in pubsub)


@pytest.mark.parametrize("broker", ["redis", "redis-stream"])
def test_a_redis_that_is_busy_refuses_no_client(serve: Serve, redis_server: RedisServer, broker: str) -> None:
    server = serve(f"--broker={broker}", f"--redis-port={redis_server.port}", "--http-publish=1")
    with Subscriber(server.url, "base") as client, ExitStack() as stack:
        redis_server.command("CONFIG", "SET", "lua-time-limit", "100")
        busy = stack.enter_context(socket.create_connection(("127.0.0.1", redis_server.port)))
        busy.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
        until(lambda: b"BUSY" in redis_server.command("GET", "x"))
        other = stack.enter_context(Subscriber(server.url, "other"))
        other.wait_open()
        assert post(server, "x", "busy")[0] == 503
        redis_server.command("SCRIPT", "KILL")
        publish_until_accepted(server, "2")
        data_until(client, "2")
        assert other.status == 200


@pytest.mark.parametrize("broker", ["redis-stream"])
def test_a_redis_that_stood_still_doubles_nothing_that_has_a_key(
    serve: Serve, redis_server: RedisServer, broker: str
) -> None:
    server = serve(f"--broker={broker}", f"--redis-port={redis_server.port}")
    with Subscriber(server.url, "base") as client:
        publish_until_accepted(server, "0")
        redis_server.pause()
        status, answer = post(server, "1", "key-1")
        assert (status, answer["published"]) == (503, "unknown")
        redis_server.resume()
        until(lambda: post(server, "1", "key-1")[0] == 200)
        publish_until_accepted(server, "end")
        assert data_until(client, "end") == ["0", "1", "end"]


def test_eighty_attempts_at_two_servers_are_twenty_events(serve: Serve, redis_server: RedisServer) -> None:
    servers = [serve("--broker=redis-stream", f"--redis-port={redis_server.port}") for _ in range(2)]
    body = {"channel": "base", "message": "x"}

    def attempt(n: int) -> str:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"key-{n % 20}"}
        answer = request("POST", f"{servers[n // 20 % 2].url}/publish", json.dumps(body), headers)
        return str(answer.json["id"])

    with Subscriber(servers[0].url, "base") as client, ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(attempt, range(80)))
        assert len(set(ids)) == 20
        publish_until_accepted(servers[1], "end")
        assert len(data_until(client, "end")) == 21
