"""Redis and RabbitMQ die, hang, are not there yet, or refuse us: clients stay, and nothing is forgotten."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.harness.clients import Subscriber, request, stats
from tests.harness.process import Process, until
from tests.harness.servers import SseServer
from tests.harness.upstreams import Upstream
from tests.integration.conftest import Serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
AWAY, BACK = "lost R", "reconnected to R"  # Redis or RabbitMQ


def wait_for(server: SseServer, line: str, times: int = 1) -> None:
    """Wait until the log holds the line that often, and not oftener."""
    until(lambda: server.log.count(line) >= times, f"{line!r} in the log {times} times")
    assert server.log.count(line) == times, server.log


def post(server: SseServer, channel: str, message: str) -> tuple[int, str]:
    """Status and reason of a POST to /publish."""
    answer = request("POST", f"{server.url}/publish", f"channel={channel}&message={message}", FORM)
    return answer.status, answer.json.get("reason", "")


def expect_gap_then(client: Subscriber, *messages: str) -> None:
    """The client receives one gap event, then exactly these events."""
    gap, *events = client.events(1 + len(messages))
    assert gap.type == "sse-gap"
    assert [event.data for event in events] == list(messages)
    assert client.pending() == []


@pytest.mark.slow
def test_killed_with_200_clients_and_back(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options, "--http-publish=1", "--linger=0")
    with ExitStack() as stack:
        clients = [stack.enter_context(Subscriber(server.url, ["base", f"own-{n % 20}"])) for n in range(200)]
        upstream.publish("base", "before")
        assert {client.event().data for client in clients} == {"before"}
        assert post(server, "base", "posted")[0] == 200
        assert {client.event().data for client in clients} == {"posted"}

        upstream.server.kill()
        wait_for(server, AWAY)
        assert stats(server.url)["base"] == 200
        status, reason = post(server, "base", "lost")
        assert status == 503
        assert "127.0.0.1" not in reason
        # They come and go while it is away: the last of own-0 leaves, new-0 comes and goes, new-1 comes.
        for client in clients[::20]:
            client.close()
        Subscriber(server.url, "new-0").wait_open().close()
        new = stack.enter_context(Subscriber(server.url, "new-1"))
        until(lambda: "own-0" not in stats(server.url) and "new-0" not in stats(server.url))

        upstream.restart()
        wait_for(server, BACK)
        stayed = [client for n, client in enumerate(clients) if n % 20]
        assert {client.event().type for client in [*stayed, new]} == {"sse-gap"}
        until(lambda: upstream.subscriptions() == set(stats(server.url)), "what is held is what is wanted")
        upstream.publish("base", "first", "second")
        upstream.publish("new-1", "hello")
        until(lambda: post(server, "base", "third")[0] == 200)
        assert new.event().data == "hello"
        for client in stayed:
            assert client.data(3) == ["first", "second", "third"]
            assert client.pending() == []
    assert (server.log.count(AWAY), server.log.count(BACK)) == (1, 1)
    assert "cannot reach" not in server.log


@pytest.mark.slow
def test_a_broker_that_hangs_is_noticed(serve: Serve, upstream: Upstream) -> None:
    server = serve(*upstream.options, *upstream.fast, "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        assert post(server, "base", "before")[0] == 200
        assert client.event().data == "before"
        upstream.server.pause()
        assert post(server, "base", "hanging")[0] == 503
        assert stats(server.url) == {"base": 1}
        wait_for(server, AWAY)
        with Subscriber(server.url, "new") as new:
            upstream.server.resume()
            wait_for(server, BACK)
            # The broker may have accepted "hanging" without an answer, and deliver it after it resumes.
            expect_gap_then(client)
            assert new.event().type == "sse-gap"
            upstream.publish("new", "hello")
            upstream.publish("base", "after")
            assert new.event().data == "hello"
            assert client.event().data == "after"


@pytest.mark.slow
def test_a_broker_that_is_absent_at_the_start(serve: Serve, upstream: Upstream) -> None:
    upstream.server.kill()
    server = serve(*upstream.options, "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        assert stats(server.url) == {"base": 1}
        assert post(server, "base", "x")[0] == 503
        upstream.restart()
        wait_for(server, BACK)
        expect_gap_then(client)
        upstream.publish("base", "here")
        assert client.event().data == "here"
    wait_for(server, "cannot reach R")
    assert AWAY not in server.log


@pytest.mark.slow
def test_a_wrong_password_is_one_line_until_it_is_right(serve: Serve, upstream: Upstream) -> None:
    undo = upstream.demand_password()
    try:
        server = serve(*upstream.options, "--http-publish=1")
        wait_for(server, "refused by R")
        with Subscriber(server.url, "base") as client:
            assert post(server, "base", "x")[0] == 503
            assert stats(server.url) == {"base": 1}
            undo()
            wait_for(server, BACK)
            expect_gap_then(client)
            upstream.publish("base", "here")
            assert client.event().data == "here"
        wait_for(server, "refused by R")
        assert "cannot reach" not in server.log
    finally:
        undo()


@pytest.mark.parametrize("hangs", [False, True], ids=["absent", "hanging"])
def test_the_server_stops_while_the_broker_is_away(serve: Serve, upstream: Upstream, hangs: bool) -> None:
    server = serve(*upstream.options, "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        if hangs:
            upstream.server.pause()
        else:
            upstream.server.kill()
            wait_for(server, AWAY)
        server.stop()
        client.wait_end()
    Process.resume(upstream.server)
