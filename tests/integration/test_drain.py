"""The end of a server: spread over some time, with a word to each client, and what was taken goes out."""

from __future__ import annotations

import re
import selectors
import signal
import socket

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import accepts, connections, free_port, until
from tests.integration.conftest import Serve

CROWD = 500


def wait_ends(crowd: list[Subscriber], count: int) -> list[Subscriber]:
    """Wait until so many of these streams have ended; returns those that have."""
    ended: list[Subscriber] = []
    with selectors.DefaultSelector() as selector:
        for client in crowd:
            client.socket.setblocking(False)
            selector.register(client.socket, selectors.EVENT_READ, client)
        while len(ended) < count:
            ready = selector.select(timeout=PATIENCE)
            assert ready, "a stream did not end"
            for key, _ in ready:
                data = key.data.socket.recv(65536)
                key.data._take(data)
                if not data:
                    selector.unregister(key.data.socket)
                    ended.append(key.data)
    return ended


def test_streams_end_spread_each_with_a_time_to_come_back(serve: Serve) -> None:
    server = serve("--drain=100")
    crowd = [Subscriber(server.url, f"c{number}").wait_open() for number in range(CROWD)]
    server.send_signal(signal.SIGTERM)
    until(lambda: not accepts(server.port), "the port to be closed")
    first = wait_ends(crowd, 10)
    assert len(first) < CROWD, "the others end later"
    told = [int(retry) for client in first for retry in re.findall(rb"retry: (\d+)\n\n$", client.body)]
    assert len(told) == len(first)
    assert all(2000 <= retry <= 6000 for retry in told)
    assert len(set(told)) > len(first) / 4, "each receives a time of its own"
    for client in crowd:
        client.close()
    assert server.wait() in (0, -signal.SIGTERM), "it waits for no one"
    server.check_log()


def test_each_stream_has_ended_when_the_time_is_over(serve: Serve) -> None:
    server = serve("--drain=1")
    crowd = [Subscriber(server.url).wait_open() for _ in range(20)]
    server.send_signal(signal.SIGTERM)
    assert len(wait_ends(crowd, len(crowd))) == len(crowd)
    for client in crowd:
        assert re.search(rb"retry: (\d+)\n\n$", client.body)
        client.close()
    assert server.wait() in (0, -signal.SIGTERM)


def test_without_drain_they_end_at_once(serve: Serve) -> None:
    server = serve()
    with Subscriber(server.url) as reader:
        publish(server.url, "base", "last words")
        server.send_signal(signal.SIGTERM)
        assert reader.wait_end().count(b"last words") == 1
        server.wait()


def test_a_second_signal_ends_it_at_once(serve: Serve) -> None:
    server = serve("--drain=600")
    with Subscriber(server.url) as reader, Subscriber(server.url) as other:
        server.pause()  # so that it finds both at once
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGINT)
        server.resume()
        reader.wait_end()
        other.wait_end()
        assert server.wait() in (0, -signal.SIGINT, -signal.SIGTERM)
        server.check_log()


def test_a_second_signal_while_it_drains_ends_it_at_once(serve: Serve) -> None:
    server = serve("--drain=600")
    with Subscriber(server.url) as reader, Subscriber(server.url) as other:
        server.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server.port), "the port to be closed")
        server.send_signal(signal.SIGTERM)
        reader.wait_end()
        other.wait_end()
        assert server.wait() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("options", [[], ["--drain=1"]])
def test_a_request_that_was_on_its_way_is_answered(serve: Serve, options: list[str]) -> None:
    server = serve(*options)
    form = "Content-Type: application/x-www-form-urlencoded"
    with Subscriber(server.url) as reader, socket.create_connection(("127.0.0.1", server.port)) as late:
        until(lambda: connections(server.pid) == 2, "both to be let in")
        server.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server.port), "the port to be closed")
        late.sendall(f"POST /publish HTTP/1.1\r\nHost: a\r\n{form}\r\nContent-Length: 22\r\n\r\n".encode())
        late.sendall(b"channel=base&message=x")
        answer = late.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in answer
        assert late.recv(1000) == b""
        if options:
            assert b"data: x\n" in reader.wait_end()


def test_before_the_drain_the_port_stays_open_while_readyz_says_no(serve: Serve) -> None:
    """A load balancer goes on sending clients until it has noticed."""
    admin = free_port()
    server = serve(f"--admin-port={admin}", "--drain-delay=600")
    with Subscriber(server.url) as early:
        server.send_signal(signal.SIGTERM)
        ready = f"http://127.0.0.1:{admin}/readyz"
        until(lambda: request("GET", ready).status == 503, "it to say so")
        with Subscriber(server.url) as late:
            assert request("GET", f"{server.url}/stats").status == 200
            publish(server.url, "base", "still here")
            assert early.data(1) == late.data(1) == ["still here"]
            server.send_signal(signal.SIGTERM)
            early.wait_end()
            late.wait_end()
        assert server.wait() in (0, -signal.SIGTERM)
