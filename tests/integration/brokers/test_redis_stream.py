"""One Redis stream for all instances: no restart loses, doubles or reorders an event."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import free_port, need, until
from tests.harness.servers import RedisServer
from tests.integration.brokers.test_faults import FORM, wait_for
from tests.integration.conftest import Serve

STREAM = "cyclone-sse"
LOST, BACK_AT = "lost stream", "reconnected to stream"


class Stream:
    """The Redis of a test, and what can be done to its stream from outside."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.cli = [need("redis-cli"), "-p", str(server.port)]
        self.options = ["--broker=redis-stream", f"--redis-port={server.port}"]

    def run(self, *words: str) -> str:
        """What redis-cli prints for these words."""
        done = subprocess.run(
            [*self.cli, *words], check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.stdout.strip()

    def add(self, channel: str, *messages: str) -> None:
        """An entry for each message."""
        words = [("XADD", STREAM, "*", "channel", channel, "message", message) for message in messages]
        lines = (
            f"*{len(line)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in line) for line in words
        )
        done = subprocess.run(
            [*self.cli, "--pipe"],
            input="".join(lines).encode(),
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert b"errors: 0" in done.stdout


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    """A Redis with its own persistence."""
    with RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield Stream(server)


def test_redis_cli_reaches_an_event_source(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, "base") as client:
        words = f"redis-cli -p {stream.server.port} XADD cyclone-sse '*' channel base message '[1, 2, 3]'"
        printed = subprocess.run(
            words, shell=True, check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout
        event = client.event()
        assert event.data == "[1, 2, 3]"
        assert event.id is not None
        assert event.id.startswith(printed.strip() + "-")


def data_until(client: Subscriber, last: str) -> list[str]:
    """The messages up to this one; anything but a message fails."""
    data: list[str] = []
    while not data or data[-1] != last:
        event = client.event()
        assert event.type == "message", (event, data)
        data.append(event.data)
    return data


def test_entries_may_have_all_that_a_post_may(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, ["a", "b"]) as client:
        stream.run(
            "XADD",
            STREAM,
            "*",
            "channel",
            "a",
            "channel",
            "b",
            "message",
            "1",
            "event",
            "price",
            "retry",
            "9",
        )
        publish(server.url, ["a", "b"], "2")
        first, second = client.events(2)
        assert (first.type, first.data, second.type, second.data) == ("price", "1", "message", "2")
        assert client.pending() == []
    assert int(stream.run("XLEN", STREAM)) == 2


def test_what_makes_no_sense_is_left_out_and_said_once(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, "a") as client:
        for words in (
            ["x", "y"],
            ["channel", "a"],
            ["message", "without a channel"],
            ["channel", "a", "message", "x", "event", "sse-gap"],
            ["channel", "a", "message", "x", "retry", "soon"],
            ["control", "no JSON"],
            ["control", '{"unknown": 1}'],
        ):
            stream.run("XADD", STREAM, "*", *words)
        subprocess.run(
            [*stream.cli, "-x", "XADD", STREAM, "*", "channel", "a", "message"], input=b"\xff", check=True
        )
        stream.add("a", "the end")
        assert client.event().data == "the end"
    assert server.log.count("skipped an entry") == 1


def test_a_client_changes_instances_and_goes_on_exactly(serve: Serve, stream: Stream) -> None:
    here, there = serve(*stream.options), serve(*stream.options)
    expected: list[str] = []
    got: list[str] = []
    last_id: str | None = None
    for n in range(20):
        server = (here, there)[n % 2]
        with Subscriber(server.url, ["base", "other"], last_id) as client:
            stream.add("base", f"{n}", f"{n} again")
            publish(here.url, "other", f"{n} posted")
            expected += [f"{n}", f"{n} again", f"{n} posted"]
            # It leaves in the middle, so that it has to be given the rest by the other one.
            while len(got) < len(expected) - (n < 19):
                event = client.event()
                assert event.type == "message"
                got.append(event.data)
                last_id = event.id
    assert got == expected


def test_a_new_instance_reads_what_there_is_before_it_opens(serve: Serve, stream: Stream) -> None:
    here = serve(*stream.options)
    with Subscriber(here.url, "base") as client:
        stream.add("base", "1", "2", "3")
        last_id = client.events(1)[0].id
    there = serve(*stream.options)
    with Subscriber(there.url, "base", last_id) as client:
        stream.add("base", "4")
        assert client.data(3) == ["2", "3", "4"]
    idle = Subscriber(here.url, "quiet", headers={"User-Agent": "Mozilla/5.0"})  # gets its position
    with idle.wait_open(), Subscriber(there.url, "quiet", idle.headers["last-event-id"]) as client:
        stream.add("quiet", "first")
        assert client.event().data == "first"  # and no gap


def test_redis_is_killed_and_comes_back(serve: Serve, stream: Stream) -> None:
    here, there = serve(*stream.options), serve(*stream.options)
    with Subscriber(here.url, "base") as client, Subscriber(there.url, "base") as other:
        stream.add("base", "1")
        first = client.event()
        assert first.data == other.event().data == "1"
        stream.server.kill()
        for server in (here, there):
            wait_for(server, LOST)
        answer = request("POST", f"{here.url}/publish", "channel=base&message=x", FORM)
        assert answer.status == 503
        assert "127.0.0.1" not in answer.body.decode()
        assert stats(here.url) == {"base": 1}
        stream.server.start()
        stream.add("base", "2")
        for server in (here, there):
            wait_for(server, BACK_AT)
        publish(there.url, "base", "3")
        assert data_until(client, "3") == data_until(other, "3") == ["2", "3"]
        with Subscriber(there.url, "base", first.id) as back:
            assert data_until(back, "3") == ["2", "3"]


@pytest.mark.parametrize("loss", ["DEL", "FLUSHALL", "no persistence"])
def test_a_stream_that_is_lost_is_told_by_old_and_new(serve: Serve, tmp_path: Path, loss: str) -> None:
    with RedisServer(tmp_path) as redis:
        stream = Stream(redis)
        here = serve(*stream.options)
        with Subscriber(here.url, "base") as client:
            stream.add("base", "1", "2")
            last_id = client.events(2)[0].id
            if loss == "no persistence":
                redis.kill()
                wait_for(here, LOST)
                redis.start()
                wait_for(here, BACK_AT)
            else:
                stream.run(*([loss, STREAM] if loss == "DEL" else [loss]))
            stream.add("base", "3")
            gap, event = client.events(2)
            assert (gap.type, event.type, event.data) == ("sse-gap", "message", "3")
            assert event.id.rpartition("-")[2] != last_id.rpartition("-")[2]
            there = serve(*stream.options)
            for server in (here, there):
                with Subscriber(server.url, "base", last_id) as back:
                    gap, event = back.events(2)
                    assert (gap.type, event.data) == ("sse-gap", "3")
                with Subscriber(server.url, "base", client.last_event_id) as back:
                    stream.add("base", "4")
                    assert back.event().data == "4"
                    assert client.event().data == "4"


def test_a_stream_that_was_trimmed_past_an_id_is_told(serve: Serve, stream: Stream) -> None:
    here = serve(*stream.options)
    with Subscriber(here.url, "base") as client:
        stream.add("base", *map(str, range(10)))
        old, *_, recent = [event.id for event in client.events(10)]
        stream.run("XTRIM", STREAM, "MAXLEN", "=", "3")
        there = serve(*stream.options)
        with Subscriber(there.url, "base", old) as back:
            gap, *events = back.events(4)
            assert gap.type == "sse-gap"
            assert [event.data for event in events] == ["7", "8", "9"]
        with Subscriber(there.url, "base", recent) as back, Subscriber(here.url, "base", old) as kept:
            stream.add("base", "end")
            assert data_until(back, "end") == ["end"]
            assert data_until(kept, "end") == [*map(str, range(1, 10)), "end"]  # memory still has it
            assert client.event().data == "end"


def test_what_was_trimmed_while_redis_was_away_is_told(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, "base") as client:
        stream.add("base", "1")
        last_id = client.event().id
        server.pause()
        stream.run("CLIENT", "KILL", "TYPE", "normal")  # else what it waits for would be under way
        stream.add("base", *map(str, range(2, 10)))
        stream.run("XTRIM", STREAM, "MAXLEN", "=", "2")
        server.resume()
        assert client.event().type == "sse-gap"
        stream.add("base", "end")
        assert data_until(client, "end") == ["8", "9", "end"]
        with Subscriber(server.url, "base", last_id) as back:
            assert back.event().type == "sse-gap"


def test_what_was_read_and_trimmed_then_is_no_gap(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, "base") as client:
        stream.add("base", *map(str, range(10)))
        client.data(10)
        stream.run("XTRIM", STREAM, "MAXLEN", "=", "0")
        stream.add("base", "a", "b")
        assert data_until(client, "b") == ["a", "b"]
        stream.run("XTRIM", STREAM, "MAXLEN", "=", "0")
        stream.run("CLIENT", "KILL", "TYPE", "normal")
        wait_for(server, BACK_AT)
        stream.add("base", "c", "d")
        assert data_until(client, "d") == ["c", "d"]


def test_patterns_are_matched_here(serve: Serve, stream: Stream) -> None:
    here = serve(*stream.options, "--patterns=1")
    with Subscriber(here.url, ["news.*", "news.a"]) as client:
        stream.add("news.a", "1")
        stream.add("other", "no")
        stream.add("news.b", "2", "3")
        stream.run("XADD", STREAM, "*", "channel", "x", "channel", "news.c", "message", "4")
        first, *_ = client.events(4)
    there = serve(*stream.options, "--patterns=1")
    with Subscriber(there.url, "news.*", first.id) as back:
        stream.add("news.z", "5")
        assert data_until(back, "5") == ["2", "3", "4", "5"]


def test_the_stream_is_kept_short(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options, "--redis-stream-size=200")
    stream.add("base", *["x" * 100] * 5000)
    for n in range(3):
        publish(server.url, "base", f"posted {n}")
    assert 200 <= int(stream.run("XLEN", STREAM)) < 500


def test_a_redis_without_memory_is_still_read_and_trimmed(serve: Serve, stream: Stream) -> None:
    admin = free_port()
    server = serve(*stream.options, f"--admin-port={admin}")
    ready = f"http://127.0.0.1:{admin}/readyz"
    with Subscriber(server.url, "base") as client:
        stream.run("XADD", STREAM, "1-0", "channel", "base", "message", "old")
        assert client.event().data == "old"
        stream.run("CONFIG", "SET", "maxmemory", "1")
        answer = request("POST", f"{server.url}/publish", "channel=base&message=x", FORM)
        assert (answer.status, answer.json["published"]) == (503, False)
        until(lambda: b"OOM" in request("GET", ready).body, "it is not ready")
        until(lambda: stream.run("XLEN", STREAM) == "0", "the stream is trimmed")
        serve(*stream.options)  # also starts
        assert LOST not in server.log
        stream.run("CONFIG", "SET", "maxmemory", "0")
        until(lambda: request("GET", ready).status == 200, "it is ready again")
        publish(server.url, "base", "new")
        assert client.event().data == "new"


@pytest.mark.slow
def test_a_hundred_thousand_waiting_entries(serve: Serve, stream: Stream) -> None:
    for part in range(10):
        stream.add(f"channel-{part}", *[f"message {n}" for n in range(10_000)])
    began = time.monotonic()
    server = serve(*stream.options)
    print(f"opened after {time.monotonic() - began:.1f} s with {server.memory() / 2**20:.0f} MiB")
    assert server.memory() < 200 * 2**20
    with Subscriber(server.url, "channel-9", "earliest") as client:
        assert client.data(100)[-1] == "message 9999"


@pytest.mark.slow
def test_a_key_of_another_kind_is_one_line(serve: Serve, stream: Stream) -> None:
    server = serve(*stream.options)
    with Subscriber(server.url, "base"):
        stream.run("SET", STREAM, "something else")
        wait_for(server, "refused by stream")
        assert "WRONGTYPE" in server.log
        stream.run("DEL", STREAM)
        wait_for(server, BACK_AT)
