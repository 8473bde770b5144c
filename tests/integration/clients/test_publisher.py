"""The Python client's publisher and its asynchronous twin, against the real server and broken ones."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cyclone_sse_client import (
    CycloneSSEError,
    Message,
    NotAllowed,
    Published,
    Publisher,
    Refused,
    Unavailable,
    make_token,
)
from cyclone_sse_client.aio import AsyncPublisher
from cyclone_sse_client.connections import Connections

from tests.harness.clients import Subscriber
from tests.harness.process import connections, free_port, until
from tests.harness.scripted import OK, answer, scripted
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET


class Both:
    """The blocking publisher, or the asynchronous one behind the same face."""

    def __init__(self, kind: type, url: str, key: str | None = None, **how: Any) -> None:
        self.made = kind(url, key, **how)
        self.loop = asyncio.new_event_loop() if kind is AsyncPublisher else None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.made, name)
        loop = self.loop
        if loop is None:
            return method  # type: ignore[no-any-return]
        return lambda *args, **how: loop.run_until_complete(method(*args, **how))

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.loop is not None:
            self.loop.close()


Make = Callable[..., Both]


@pytest.fixture(params=[Publisher, AsyncPublisher])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a publisher of each kind in turn."""
    return lambda url, key=None, **how: Both(request.param, url, key, **how)


def test_messages_arrive_as_they_are_meant(server: SseServer, make: Make) -> None:
    with Subscriber(server.url, ["a", "b"]) as client, make(server.url) as publisher:
        first = publisher.publish("a", "Grüße & Küsse")
        publisher.publish(["a", "b"], {"n": 1}, event="greeting", retry=5000)
        events = client.events(2)
        assert [event.data for event in events] == ["Grüße & Küsse", '{"n":1}']
        assert [event.type for event in events] == ["message", "greeting"]
        assert first.id == events[0].id
        assert first.subscribers == 1


def test_any_encoder(server: SseServer, make: Make) -> None:
    def dumps(value: object) -> bytes:
        return json.dumps(value, default=str).encode()

    with Subscriber(server.url, "a") as client, make(server.url, dumps=dumps) as publisher:
        publisher.publish("a", {"price": Decimal("1.10"), "at": datetime(2026, 1, 2, tzinfo=UTC)})
        assert client.event().data == '{"price":"1.10","at":"2026-01-02 00:00:00+00:00"}'


def test_what_is_refused_says_why(serve: Serve, make: Make) -> None:
    server = serve("--http-secret=KEY", "--max-body=1000")
    with make(server.url, "another") as publisher, pytest.raises(NotAllowed, match="key") as refused:
        publisher.publish("a", "x")
    assert refused.value.status == 401
    with make(server.url, "KEY") as publisher:
        with pytest.raises(Refused, match="sse-") as mistake:
            publisher.publish("a", "x", event="sse-mine")
        assert mistake.value.status == 400
        with pytest.raises(Refused) as large:
            publisher.publish("a", "x" * 2000)
        assert large.value.status == 413
        assert publisher.publish("a", "x").subscribers == 0


@pytest.mark.parametrize("key", ["schlüssel", "ключ"])
def test_a_key_may_have_any_letters(serve: Serve, make: Make, key: str) -> None:
    server = serve(f"--http-secret={key}")
    with make(server.url, key=key) as publisher:
        assert publisher.publish("a", "1").subscribers == 0


def test_a_key_with_its_line_break_is_not_shown(make: Make) -> None:
    with pytest.raises(ValueError, match="the key has a line break") as raised:
        make("http://127.0.0.1:1", key="secret123\n")
    assert "secret123" not in str(raised.value)


@pytest.mark.parametrize("key", ["order 7", "7\n", "Bestellung-ü", "😀", "x" * 201])
def test_an_idempotency_key_that_the_server_would_refuse(make: Make, key: str) -> None:
    with make("http://127.0.0.1:1", patience=0) as publisher:
        with pytest.raises(ValueError, match="visible ASCII"):
            publisher.publish("a", 1, idempotency_key=key)
        with pytest.raises(ValueError, match="visible ASCII"):
            publisher.batch([Message(channels="a", message=1)], idempotency_key=key)


def test_a_token_publishes(serve: Serve, make: Make) -> None:
    server = serve(f"--jwt-secret={SECRET}")
    token = make_token(SECRET, publish="room-*", user=7)
    with make(server.url, token) as publisher:
        publisher.publish("room-1", "x")
        with pytest.raises(NotAllowed, match="hall") as refused:
            publisher.publish("hall", "x")
    assert refused.value.status == 403


def test_streams_of_a_user_end(serve: Serve, make: Make) -> None:
    server = serve(f"--jwt-secret={SECRET}", "--http-secret=KEY")
    headers = {"Authorization": f"Bearer {make_token(SECRET, 'a', user=7)}"}
    with Subscriber(server.url, "a", headers=headers) as client, make(server.url, "KEY") as publisher:
        assert publisher.disconnect(user=8) == 0
        assert publisher.disconnect(user=7) == 1
        client.wait_end()
        assert publisher.disconnect(channels="a") == 0
        with pytest.raises(ValueError, match="name the user or the channels"):
            publisher.disconnect()


def test_a_thousand_publishes_use_one_connection(server: SseServer) -> None:
    with Subscriber(server.url, "a") as client, Publisher(server.url) as publisher:
        before = connections(server.pid, server.port)
        for number in range(1000):
            publisher.publish("a", str(number))
            if number % 250 == 0:
                assert connections(server.pid, server.port) == before + 1
        assert client.data(1000) == [str(number) for number in range(1000)]


def test_threads_share_a_publisher(server: SseServer) -> None:
    def work(name: str) -> None:
        for number in range(50):
            publisher.publish("a", f"{name}-{number}")

    with Subscriber(server.url, "a") as client, Publisher(server.url) as publisher:
        threads = [threading.Thread(target=work, args=(str(name),), daemon=True) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard = client.data(400)
    assert sorted(heard) == sorted(f"{name}-{number}" for name in range(8) for number in range(50))


def test_a_process_uses_no_connection_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does a thread that looks for one while another notices the fork."""
    kept, found = Connections("http://127.0.0.1:1"), []

    class Inherited(http.client.HTTPConnection):
        def close(self) -> None:
            found.append(kept.pop_idle(1))

    with socket.socket() as open_socket:
        for _ in range(2):
            connection = Inherited("127.0.0.1")
            connection.sock = open_socket
            kept.keep(connection)
        monkeypatch.setattr(os, "getpid", lambda: 0)
        found.append(kept.pop_idle(1))
    assert set(found) == {None}


def test_many_tasks_share_a_few_connections() -> None:
    async def publish_all(url: str) -> None:
        async with AsyncPublisher(url) as publisher:
            await asyncio.gather(*(publisher.publish("a", number) for number in range(300)))

    with scripted() as server:
        asyncio.run(publish_all(server.url))
        assert len(server.asked) == 300
        assert server.opened < 50  # one that was idle for five seconds is replaced


def test_a_publisher_outlives_its_event_loops(server: SseServer) -> None:
    publisher = AsyncPublisher(server.url)

    async def publish() -> Published:
        return await publisher.publish("a", "x")

    for _ in range(5):
        asyncio.run(publish())
        until(lambda: connections(server.pid, server.port) == 0, "the end of the connection")

    async def close() -> None:
        await publish()
        await publisher.close()
        await publish()

    asyncio.run(close())


def test_a_unix_socket(serve: Serve, tmp_path: Any, make: Make) -> None:
    path = tmp_path / "sse.sock"
    serve(f"--endpoint=unix:{path}")
    with make(f"unix:{path}") as publisher:
        assert publisher.publish("a", "x").subscribers == 0


def test_a_server_that_is_away(make: Make) -> None:
    where = f"127.0.0.1:{free_port()}"
    with make(f"http://name:secret@{where}/", patience=0.3) as publisher:
        with pytest.raises(Unavailable, match=f"no answer from http://{where}: .*") as failure:
            publisher.publish("a", "x", idempotency_key="order-7")
        assert failure.value.published is False
        assert failure.value.idempotency_key == "order-7"
        assert "secret" not in str(failure.value)


def test_a_server_that_hangs(make: Make) -> None:
    with scripted(b"", b"") as server, make(server.url, timeout=1, patience=0) as publisher:
        with pytest.raises(Unavailable) as failure:
            publisher.publish("a", "x")
        assert failure.value.published is None
        until(lambda: server.asked, "the request")
        assert len(server.asked) == 1


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(make: Make) -> None:
    with scripted(None, answer("502 Bad Gateway", b"<html>"), None) as server, make(server.url) as publisher:
        assert publisher.publish("a", "x").subscribers == 0
        assert len(server.asked) == 4
        assert len(set(server.keys)) == 1
        publisher.publish("a", "x")
        assert len(set(server.keys)) == 2
    assert all(server.keys)


def test_each_message_of_a_batch_has_its_key() -> None:
    with scripted(None) as server, Publisher(server.url) as publisher:
        publisher.batch([Message(channels="a", message=n) for n in range(3)], idempotency_key="k")
        for asked in server.asked:
            body = json.loads(asked.partition(b"\r\n\r\n")[2])
            assert [each["idempotency_key"] for each in body] == ["k-0", "k-1", "k-2"]


def test_a_server_that_is_full_says_when(make: Make) -> None:
    body = b'{"status": "error", "reason": "the broker is away", "published": false}'
    with scripted(answer("503 No", body, "Retry-After: 0")) as server, make(server.url) as publisher:
        publisher.publish("a", "x")
        assert len(server.asked) == 2
    with scripted(answer("503 No", body, "Retry-After: 60")) as server, make(server.url) as publisher:
        with pytest.raises(Unavailable, match="the broker is away") as failure:
            publisher.publish("a", "x")
        assert (failure.value.status, failure.value.retry_after) == (503, 60)
        assert failure.value.published is False
        assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"{}", b"null"])
def test_what_is_no_cyclone_sse_is_named(make: Make, body: bytes) -> None:
    with scripted(answer("200 OK", body)) as server, make(server.url) as publisher:
        refused = pytest.raises(CycloneSSEError, match="not an answer of cyclone-sse")
        with refused:
            publisher.publish("a", "x")


def test_a_kept_connection_that_the_server_closed(make: Make) -> None:
    """It is opened again at once, and that is no failed attempt: it works without patience."""
    with scripted(OK, None) as server, make(server.url, patience=0) as publisher:
        publisher.publish("a", "1")
        publisher.publish("a", "2")
        assert server.opened == 2


@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
@pytest.mark.parametrize("url", ["127.0.0.1:8888", "ftp://x", "http://", "http://127.0.0.1:80x"])
def test_a_url_that_is_none(kind: type, url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        kind(url)


def test_a_password_in_the_url_does_not_replace_the_key(make: Make) -> None:
    with scripted(OK) as server, make(server.url.replace("//", "//user:password@"), "KEY") as publisher:
        publisher.publish("a", "x")
        assert b"authorization: bearer key" in server.asked[0].lower()


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_ipv6_address_without_a_port(scheme: str, port: int) -> None:
    connection = Connections(f"{scheme}://[2001:db8::8]").open(1)
    assert (connection.host, connection.port) == ("2001:db8::8", port)


def test_a_message_that_is_no_json() -> None:
    with pytest.raises(TypeError):
        Publisher("http://127.0.0.1:1").publish("a", object())


def test_a_restart_in_the_middle_loses_nothing(serve: Serve, tmp_path: Any) -> None:
    """With a history file: what was published is kept, and each attempt has its key."""
    server = serve(f"--history-file={tmp_path}/events.sqlite", "--history-size=1000")

    def work() -> None:
        for number in range(300):
            publisher.publish("a", str(number))

    with Publisher(server.url, patience=60) as publisher:
        thread = threading.Thread(target=work, daemon=True)
        with Subscriber(server.url, "a") as published:
            thread.start()
            published.events(20)
        server.kill()
        server.start()
        thread.join()
    with Subscriber(server.url, "a", "earliest") as client:
        heard = [client.event().data]
        while heard[-1] != "299":
            heard += client.data(1)
    assert set(heard) == {str(number) for number in range(300)}
