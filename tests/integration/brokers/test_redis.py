"""What only Redis has: patterns, users, databases, TLS."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import free_port, need, until
from tests.harness.servers import RedisServer
from tests.harness.upstreams import RedisUpstream
from tests.integration.brokers.test_faults import BACK, FORM, wait_for
from tests.integration.conftest import Serve


def test_a_pattern_gets_what_it_matches(serve: Serve, redis: RedisUpstream) -> None:
    server = serve(*redis.options, "--patterns=1")
    with Subscriber(server.url, "news.*") as client, Subscriber(server.url, ["news.tech", "*.tech"]):
        redis.publish("news.sport", "a", "a")
        redis.publish("other", "b")
        redis.publish("news.", "c")
        redis.publish("news.tech", b"\xff")
        redis.publish(b"news.\xff".decode("latin-1"), "d")
        assert client.data(4) == ["a", "a", "c", "d"]
    assert server.log.count("'news.tech' is not UTF-8") == 1


def test_a_client_under_several_names_gets_a_message_once(serve: Serve, redis: RedisUpstream) -> None:
    server = serve(*redis.options, "--patterns=1")
    names = ["news.*", "news.sport", "*.sport", "*"]
    with (
        Subscriber(server.url, names) as all_of_them,
        Subscriber(server.url, names[:2]) as two,
        Subscriber(server.url, "*.sport") as one,
        Subscriber(server.url, "news.sport") as plain,
    ):
        for client in (all_of_them, two, one, plain):
            # The same again and again: equal messages are different messages all the same.
            redis.publish("news.sport", "goal", "goal", "goal")
            assert client.data(3) == ["goal"] * 3
            for other in (all_of_them, two, one, plain):
                if other is not client:
                    assert other.data(3) == ["goal"] * 3
        redis.publish("news.tech", "chip")
        redis.publish("news.sport", "end")
        assert all_of_them.data(2) == two.data(2) == ["chip", "end"]
        assert one.data(1) == plain.data(1) == ["end"]
        assert not any(client.pending() for client in (all_of_them, two, one, plain))


def test_a_resumed_pattern_and_channel_have_one_copy(serve: Serve, redis: RedisUpstream) -> None:
    server = serve(*redis.options, "--patterns=1")
    with Subscriber(server.url, ["news.*", "news.sport"]) as client:
        redis.publish("news.sport", "1")
        last_id = client.event().id
    redis.publish("news.sport", "2", "3")
    with Subscriber(server.url, ["news.*", "news.sport"], last_id) as client:
        assert client.data(2) == ["2", "3"]
        redis.publish("news.sport", "4")
        assert client.event().data == "4"


def test_subscriptions_to_patterns_are_given_back(serve: Serve, redis: RedisUpstream) -> None:
    server = serve(*redis.options, "--linger=0", "--patterns=1", "--max-patterns=50")
    with Subscriber(server.url, [f"p{n}.*" for n in range(50)]):
        assert redis.server.command("PUBSUB", "NUMPAT") == b":50\r\n"
    until(lambda: redis.server.command("PUBSUB", "NUMPAT") == b":0\r\n", "no pattern is left")


def test_user_password_and_database_come_from_the_environment(
    serve: Serve, redis_server: RedisServer
) -> None:
    redis_server.command("ACL", "SETUSER", "sse", "on", ">pässword", "+@all", "&allowed*", "~*")
    redis_server.command("CONFIG", "SET", "requirepass", "another")
    env = {
        "CYCLONE_SSE_BROKER": "redis",
        "CYCLONE_SSE_REDIS_PORT": str(redis_server.port),
        "CYCLONE_SSE_REDIS_USERNAME": "sse",
        "CYCLONE_SSE_REDIS_PASSWORD": "pässword",
        "CYCLONE_SSE_REDIS_DB": "3",
        "CYCLONE_SSE_HTTP_PUBLISH": "1",
    }
    server = serve(env=env)
    with Subscriber(server.url, "allowed") as client:
        publish(server.url, "allowed", "in")
        assert client.event().data == "in"
        assert request("POST", f"{server.url}/publish", "channel=forbidden&message=x", FORM).status == 503
        for channels in ("channels=forbidden", "channels=allowed&channels=forbidden"):
            answer = request("GET", f"{server.url}/?{channels}")
            assert (answer.status, "'forbidden'" in answer.json["reason"]) == (403, True)
        # Redis withdraws the permission: the clients are disconnected, else they would wait forever.
        rules = "AUTH another\r\nACL SETUSER sse resetchannels &none*\r\nCLIENT KILL TYPE pubsub\r\n"
        with socket.create_connection(("127.0.0.1", redis_server.port), timeout=PATIENCE) as admin:
            admin.sendall(rules.encode())
            client.wait_end()
    assert server.log.count("does not allow the subscription") == 1
    assert len(re.findall(r"could not publish to Redis at \S+: NOPERM", server.log)) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--redis-password=wrong"], "WRONGPASS"),
        (["--redis-username=unknown", "--redis-password=secret"], "WRONGPASS"),
        ([], "NOAUTH"),
        (["--redis-password=secret", "--redis-db=99"], "out of range"),
    ],
)
def test_what_redis_says_is_in_the_log(
    serve: Serve, redis_server: RedisServer, options: list[str], reason: str
) -> None:
    redis_server.command("CONFIG", "SET", "requirepass", "secret")
    server = serve("--broker=redis", f"--redis-port={redis_server.port}", *options)
    wait_for(server, "refused by Redis")
    assert reason in server.log


class TlsRedis(RedisServer):
    """A Redis that speaks TLS on its port, and the certificate that it shows."""

    def __init__(self, directory: Path, names: str = "subjectAltName=DNS:localhost") -> None:
        super().__init__(directory)
        self.certificate, key = directory / "redis.crt", directory / "redis.key"
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x "
        words = [*command.split(), "-addext", names, "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run([need("openssl"), *words], check=True, capture_output=True)
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(key)]
        self.tls_port = free_port()
        self.options = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no", *files]


def test_tls_with_a_certificate_that_is_trusted(serve: Serve, tmp_path: Path) -> None:
    with TlsRedis(tmp_path) as redis:
        options = ["--broker=redis", "--redis-host=localhost", f"--redis-port={redis.tls_port}"]
        env = {"SSL_CERT_FILE": str(redis.certificate)}
        server = serve(*options, "--redis-tls=1", "--http-publish=1", env=env)
        with Subscriber(server.url, "base") as client:
            redis.publish("base", "plain")
            publish(server.url, "base", "through TLS")
            assert client.data(2) == ["plain", "through TLS"]
            redis.publish("base", "é" * 500_000)
            assert client.event().data == "é" * 500_000
            redis.kill()
            redis.start()
            wait_for(server, BACK)
            assert client.event().type == "sse-gap"
            redis.publish("base", "again")
            assert client.event().data == "again"


@pytest.mark.parametrize("wrong", ["unknown certificate", "another host", "no host"])
def test_tls_with_a_certificate_that_proves_nothing(serve: Serve, tmp_path: Path, wrong: str) -> None:
    with TlsRedis(tmp_path, *(["basicConstraints=CA:TRUE"] if wrong == "no host" else [])) as redis:
        host = "127.0.0.1" if wrong == "another host" else "localhost"
        env = {} if wrong == "unknown certificate" else {"SSL_CERT_FILE": str(redis.certificate)}
        options = ["--broker=redis", f"--redis-host={host}", f"--redis-port={redis.tls_port}"]
        server = serve(*options, "--redis-tls=1", env=env)
        wait_for(server, "refused by Redis")
        assert "connected to" not in server.log
