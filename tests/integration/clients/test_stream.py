"""The Python client's subscription: it resumes, it refuses, it ends; and its parser, byte by byte."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cyclone_sse_client import (
    CycloneSSEError,
    NotAllowed,
    Publisher,
    Refused,
    Subscription,
    eventstream,
    make_token,
    stream,
    subscribe,
)
from cyclone_sse_client.eventstream import Event, Parser
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port, until
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET


@contextmanager
def running(subscription: Subscription) -> Iterator[list[Event]]:
    """What a subscription brings while a thread reads it."""
    events: list[Event] = []
    thread = threading.Thread(target=_read, args=(subscription, events), daemon=True)
    thread.start()
    try:
        yield events
    finally:
        subscription.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def _read(subscription: Subscription, events: list[Event]) -> None:
    with subscription:
        for event in subscription:
            events.append(event)


def test_events_come_with_their_channels(server: SseServer) -> None:
    with running(subscribe(server.url, ["a", "b"])) as events:
        until(lambda: stats(server.url) == {"a": 1, "b": 1}, "the stream")
        publish(server.url, ["a", "b", "c"], '{"n": 1}')
        until(lambda: events, "the event")
    (event,) = events
    assert (event.type, event.json) == ("message", {"n": 1})
    assert sorted(event.channels) == ["a", "b"]


def test_it_resumes_after_a_restart(serve: Serve, tmp_path: object) -> None:
    server = serve(f"--history-file={tmp_path}/events.sqlite", "--retry=100")
    with running(subscribe(server.url, "a")) as events:
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "1")
        until(lambda: events, "the first event")
        server.kill()
        server.start()
        publish(server.url, "a", "2")
        until(lambda: len(events) == 2, "the second event")
    assert [event.data for event in events] == ["1", "2"]


@pytest.mark.parametrize("state", ["1", "0"])
def test_a_stream_that_breaks_before_the_states_is_sent_them_again(state: str) -> None:
    asked: list[str | None] = []

    class Breaks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Last-Event-ID"])
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Last-Event-ID", "7-0-tag")
            self.end_headers()
            self.wfile.write(b"retry: 1\n\n" if len(asked) == 1 else b"id: 7-0-tag\ndata: 1\n\n")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Breaks) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        with running(
            subscribe(f"http://127.0.0.1:{site.server_port}", "a", query={"state": state})
        ) as events:
            until(lambda: events, "the event")
        site.shutdown()
    assert asked[:2] == [None, None if state == "1" else "7-0-tag"]


def test_it_starts_after_an_id(server: SseServer) -> None:
    for number in range(3):
        publish(server.url, "a", str(number))
    with subscribe(server.url, "a", last_event_id="earliest") as all_of_them:
        heard = [next(all_of_them) for _ in range(3)]
    with subscribe(server.url, "a", last_event_id=heard[1].id) as later:
        assert next(later).data == "2"


FORKED = """
import os, sys
from cyclone_sse_client import subscribe

with subscribe(sys.argv[1], "a", last_event_id="earliest") as subscription:
    print(next(subscription).data, flush=True)
    if not os.fork():
        with subscription:
            print("child", next(subscription).data, flush=True)
        os._exit(0)
    os.wait()
    print("alone", flush=True)
    sys.stdin.readline()
    print("parent", next(subscription).data, next(subscription).data, flush=True)
"""


def test_a_child_process_has_a_stream_of_its_own(server: SseServer) -> None:
    publish(server.url, "a", "1")
    with subprocess.Popen(
        [sys.executable, "-c", FORKED, server.url],
        env=os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "1\n"
            until(lambda: stats(server.url) == {"a": 2}, "the stream of the child")
            publish(server.url, "a", "2")
            assert [process.stdout.readline() for _ in range(2)] == ["child 2\n", "alone\n"]
            with Publisher(server.url) as publisher:
                publisher.publish("a", "3", ttl=0)  # no client that reconnects receives it
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "parent 2 3\n"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_what_is_refused_is_raised(serve: Serve) -> None:
    server = serve(f"--jwt-secret={SECRET}")
    with pytest.raises(NotAllowed) as unknown:
        next(subscribe(server.url, "a"))
    assert unknown.value.status == 401
    with pytest.raises(NotAllowed, match="a") as forbidden:
        next(subscribe(server.url, "a", token=make_token(SECRET, ["b"])))
    assert forbidden.value.status == 403
    with pytest.raises(Refused) as mistake:
        next(subscribe(server.url, []))
    assert mistake.value.status == 400


def test_a_token_that_ends_is_asked_for_again(serve: Serve) -> None:
    server = serve(f"--jwt-secret={SECRET}", "--retry=100")
    given_out: list[int] = []

    def token() -> str:
        given_out.append(1)
        bad = "x" if len(given_out) == 1 else ""
        return make_token(SECRET, ["a"], publish=["a"]) + bad

    with running(subscribe(server.url, "a", token=token)) as events:
        until(lambda: len(given_out) == 2, "the second token")
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        assert not events


def test_it_ends_while_the_server_is_away(server: SseServer) -> None:
    subscription = subscribe(server.url, "a")
    with running(subscription):
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        server.kill()


@pytest.mark.parametrize(
    "wrong", [{"token": "secret\n"}, {"token": lambda: "geheim…"}, {"last_event_id": "1\n2"}]
)
def test_a_header_that_cannot_be_sent_is_raised(server: SseServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(CycloneSSEError) as raised, subscribe(server.url, "a", **wrong) as events:
        next(events)
    assert "secret" not in str(raised.value)


def test_a_mistake_in_a_token_function_is_raised(server: SseServer) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        next(subscribe(server.url, "a", token=lambda: make_token("short", ["a"])))


def test_the_log_says_once_why_there_is_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    subscription = subscribe(url, "a")
    with running(subscription):
        until(lambda: subscription._failures > 2, "three attempts")
    assert [record.getMessage() for record in caplog.records] == [
        f"no stream, trying again: no answer from {url}: [Errno 111] Connection refused"
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:80x", "http://127.0.0.1:99999", "http://127.0.0.1/a b"])
def test_a_url_to_which_nothing_can_be_sent_is_raised(url: str) -> None:
    with pytest.raises(ValueError, match=r"[Pp]ort|path"):
        subscribe(url, "a")


def test_it_ends_soon_while_a_handshake_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        events = subscribe(f"https://127.0.0.1:{silent.getsockname()[1]}", "a")
        with running(events):
            held = [silent.accept()]
            held.append(silent.accept())  # after the first failure
    for client, _ in held:
        client.close()


class Hasty(BaseHTTPRequestHandler):
    """Ends each stream at once, and asks for no pause, or for a very long one."""

    replies: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        self.wfile.write(self.replies.pop(0) if self.replies else ENDED)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


ENDED = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 0\n\n"
WHOLE = ENDED + b"id: 1-0-a\ndata: x\n\n"
FULL = b"HTTP/1.0 503 No\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("replies", "least"),
    [([ENDED, ENDED], 0.05), ([FULL % 0, FULL % 0], 0.25), ([FULL % 10**15, FULL % 10**15], 3600.0)],
)
def test_no_server_makes_it_connect_without_a_pause_nor_wait_forever(
    replies: list[bytes], least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Hasty)
    Hasty.replies[:] = [*replies, WHOLE]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pauses: list[float] = []
    with subscribe(f"http://127.0.0.1:{server.server_port}", "a") as events:
        monkeypatch.setattr(events._closed, "wait", pauses.append)
        assert next(events).data == "x"
    server.shutdown()
    server.server_close()
    assert len(pauses) == 2
    assert all(least <= pause <= 3600 for pause in pauses)


STREAM = (
    "\ufeff: ping\r\n\r\nid: 7\n\nretry: 250\nevent: greeting\rdata: Grüße\r\ndata:\ndata:  x\nchannel: a\n\n"
    "data: y\nid: 8\n: comment\nwrong\nid: \0bad\n\ndata: never ended"
).encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_the_parser_takes_any_pieces(cuts: list[int]) -> None:
    parser, events = Parser(), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STREAM)], strict=True):
        events += parser.feed(STREAM[start:end])
    assert events == [Event("greeting", "Grüße\n\n x", "7", ("a",)), Event("message", "y", "8")]
    assert parser.retry == 250


def test_a_large_event_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def split(text: str) -> list[str]:
        searched.append(len(text))
        return text.split("\n")

    monkeypatch.setattr(eventstream, "_LINE_END", SimpleNamespace(split=split))
    parser, piece = Parser(), b"x" * 100
    for received in (b"data: ", *[piece] * 50):
        assert parser.feed(received) == []
    assert [len(event.data) for event in parser.feed(b"\n\n")] == [5000]
    assert sum(searched) == len("data: ") + 5000 + 2


@given(st.integers(0, 60))
def test_a_stream_that_breaks_anywhere_goes_on_after_the_last_whole_event(cut: int) -> None:
    stream = "".join([f"id: {number}-0-a\ndata: e{number}\n\n" for number in range(4)]).encode()
    before = Parser()
    events = before.feed(stream[:cut])
    after = stream[stream.index(b"\n\n", stream.index(before.last_id.encode())) + 2 :] if events else stream
    assert [event.data for event in [*events, *Parser(before.last_id).feed(after)]] == [
        "e0",
        "e1",
        "e2",
        "e3",
    ]
