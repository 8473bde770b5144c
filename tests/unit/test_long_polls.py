"""The answers to long polls, one after the other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cyclone_sse.delivery import channel_reader, log_reader
from cyclone_sse.handlers import BroadcastHandler
from tests.harness.eventstream import Parser
from tests.unit.http.peer import POLL, MemoryServer, Wire


def polled(transport: Wire) -> tuple[str, list[str]]:
    """The id for the next poll, and the data of the events, in the answer to a long poll."""
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    if fields.get("Transfer-Encoding") == "chunked":  # the head did not wait for the events
        assert body.endswith("0\r\n\r\n")
        body = "".join(re.split(r"(?:^|\r\n)[0-9a-f]+\r\n", body[: -len("0\r\n\r\n")])).removesuffix("\r\n")
    else:
        assert int(fields["Content-Length"]) == len(body.encode())
    assert body.startswith("\n\n")
    assert fields["Last-Event-ID"]
    parser = Parser()
    events = parser.feed(body.encode())
    assert not transport.gone, "the connection is kept for the next poll"
    return parser.last_id or fields["Last-Event-ID"], [event.data for event in events]


def test_long_polling_ends_after_one_event_and_loses_none_between() -> None:
    server = MemoryServer()
    transport = server.connect("GET", "/?channels=a", POLL)
    assert b"\r\nLast-Event-ID: " in transport.value(), "it can ask on if it is cut off now"
    for number in range(4):
        server.publish("a", str(number))
    position, got = polled(transport)
    for _ in range(3):
        transport = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
        position, data = polled(transport)
        got += data
    assert got == ["0", "1", "2", "3"]
    waiting = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    assert waiting.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n")
    server.publish("a", "4")
    assert polled(waiting)[1] == ["4"]


def test_a_batch_of_all_that_was_missed_where_it_is_wanted() -> None:
    server = MemoryServer({"poll-batch": True})
    position = server.broker.position()
    for number in range(3):
        server.publish("a", str(number))
    transport = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    assert polled(transport)[1] == ["0", "1", "2"]


def test_a_gap_is_told_to_one_poll_and_not_to_each_until_its_end() -> None:
    server = MemoryServer({"history-size": 2})
    position = server.broker.position()
    for number in range(2):
        server.publish("quiet", f"quiet {number}")
    for number in range(4):
        server.publish("busy", f"busy {number}")
    transport = server.connect("GET", "/?channels=busy&channels=quiet", POLL, f"Last-Event-Id: {position}")
    position, data = polled(transport)
    assert data == ['{"channels": ["busy"]}', "quiet 0", "quiet 1", "busy 2"]
    transport = server.connect("GET", "/?channels=busy&channels=quiet", POLL, f"Last-Event-Id: {position}")
    position, data = polled(transport)
    assert data == ["busy 3"]


def poll_all(server: MemoryServer, query: str, position: str) -> list[list[str]]:
    """The data of all answers, one after the other, until there is none at once."""
    answers: list[list[str]] = []
    while True:
        transport = server.connect("GET", f"/?{query}", POLL, f"Last-Event-Id: {position}", turn=False)
        for _ in range(10):
            server.clock.advance(0)
        if transport.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n"):
            return answers
        position, data = polled(transport)
        answers.append(data)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("query", ["channels=busy&channels=quiet", "channels=*"])
@pytest.mark.parametrize("loss", ["full", "cleared", "upstream"])
def test_each_loss_is_told_to_one_poll_however_much_comes_before_its_end(
    batch: bool, query: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in (channel_reader, log_reader):
        monkeypatch.setattr(reader, "BATCH_EVENTS", 3)
    server = MemoryServer({"history-size": 10, "poll-batch": batch, "patterns": True})
    position = server.broker.position()
    if loss != "upstream":
        server.publish("busy", "lost")
    for number in range(8):
        server.publish("quiet", f"quiet {number}")
    if loss == "full":
        for number in range(11):
            server.publish("busy", f"busy {number}")
    elif loss == "cleared":
        server.broker.control({"clear": {"channel": ["busy"]}})
    else:
        server.broker.hub.send_gap(["busy"])
    server.clock.advance(0)
    answers = poll_all(server, query, position)
    data = [each for answer in answers for each in answer]
    assert sum("channels" in each for each in data) == 1, answers
    due = [f"quiet {number}" for number in range(8)]
    due += [f"busy {number}" for number in range(1, 11)] if loss == "full" else []
    assert [each for each in data if "channels" not in each] == due


def test_an_answer_before_a_gap_has_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_reader, "BATCH_EVENTS", 3)
    server = MemoryServer({"history-size": 10})
    position = server.broker.position()
    server.publish("busy", "lost")
    for number in range(5):
        server.publish("quiet", f"quiet {number}")
    for number in range(11):
        server.publish("busy", f"busy {number}")
    answers = poll_all(server, "channels=busy&channels=quiet", position)
    assert [len(answer) for answer in answers[:3]] == [1, 1, 1], answers


def test_a_poll_for_all_that_is_kept_is_told_no_gap_later() -> None:
    server = MemoryServer({"history-size": 2})
    server.publish("quiet", "quiet")
    for number in range(4):
        server.publish("busy", f"busy {number}")
    transport = server.connect("GET", "/?channels=busy&channels=quiet&lastEventId=earliest", POLL)
    body = transport.value().partition(b"\r\n\r\n")[2]
    parser = Parser()
    assert [event.data for event in parser.feed(body)] == ["quiet", "busy 2", "busy 3"]
    waiting = server.connect(
        "GET", "/?channels=busy&channels=quiet", POLL, f"Last-Event-Id: {parser.last_id}"
    )
    assert waiting.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n")


def test_a_poll_that_missed_several_is_not_given_what_comes_instead_of_them() -> None:
    server = MemoryServer()
    position = server.broker.position()
    for number in range(3):
        server.publish("a", str(number))
    seen = []
    for number in range(3, 6):
        transport = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}", turn=False)
        server.publish("a", str(number))
        position, data = polled(transport)
        seen += data
    assert seen == ["0", "1", "2"]


def test_a_poll_of_a_custom_application_that_leaves_events_out_goes_on_with_the_next() -> None:
    class Even(BroadcastHandler):
        def sendEvent(self, message: Any, *args: Any, **kwargs: Any) -> None:
            if int(message) % 2 == 0:
                super().sendEvent(message, *args, **kwargs)

    server = MemoryServer(subscribe=Even)
    position = server.broker.position()
    for number in (1, 3, 4, 5):
        server.publish("a", str(number))
    transport = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    position, data = polled(transport)
    assert data == ["4"]
    transport = server.connect("GET", "/?channels=a", POLL, f"Last-Event-Id: {position}")
    server.publish("a", "7")
    assert transport.value().endswith(b"\r\n\r\n2\r\n\n\n\r\n")
    server.publish("a", "8")
    assert polled(transport)[1] == ["8"]


@pytest.mark.parametrize("last", [None, "data: bye\n\n", b"data: bye\n\n"])
def test_a_poll_that_a_custom_application_finishes_is_a_whole_answer(last: str | bytes | None) -> None:
    clients: list[BroadcastHandler] = []

    class Ending(BroadcastHandler):
        def bind(self) -> None:
            super().bind()
            clients.append(self)

    transport = MemoryServer(subscribe=Ending).connect("GET", "/?channels=a", POLL)
    clients[0].finish(last)
    body = transport.value().partition(b"\r\n\r\n")[2]
    assert body == b"2\r\n\n\n\r\n" + (b"b\r\ndata: bye\n\n\r\n" if last else b"") + b"0\r\n\r\n"


def test_a_client_may_ask_for_a_stream_in_spite_of_its_header() -> None:
    """React Native's EventSource sends the header of those that poll."""
    server = MemoryServer()
    client = server.connect("GET", "/?channels=a&stream=1", POLL)
    server.publish("a", "1")
    server.publish("a", "2")
    assert client.events == ["1", "2"]
