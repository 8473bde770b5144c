"""--history-file: what was answered with 200 is there after any end of the process, once and in order."""

from __future__ import annotations

import http.client
import json
import resource
import shlex
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.docs import commands
from tests.harness.eventstream import Event
from tests.harness.patience import PATIENCE
from tests.harness.process import accepts, until
from tests.harness.servers import SseServer
from tests.harness.twistd import run_twistd
from tests.integration.conftest import Serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KILLS = 5
BETWEEN_KILLS = 150  # accepted events


class Publisher(threading.Thread):
    """Publishes on one connection as fast as it can; no two messages are the same. accepted: with 200."""

    def __init__(self, name: str, port: int, over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.port = port
        self.over = over
        self.accepted: list[str] = []
        self.start()

    def run(self) -> None:
        tries = 0
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                while not self.over.is_set():
                    tries += 1
                    message = f"{self.name}-{tries}"
                    fields = [("channel", "all"), ("channel", self.name), ("message", message)]
                    connection.request("POST", "/publish", urlencode(fields), FORM)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 200:
                        self.accepted.append(message)
            except (OSError, http.client.HTTPException):
                until(lambda: accepts(self.port), "the server is back")
            finally:
                connection.close()


class Reader(threading.Thread):
    """Listens until it receives "the end"; reconnects with its last id whenever it is disconnected."""

    def __init__(self, url: str, port: int, channels: Sequence[str], last_event_id: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.port = port
        self.channels = channels
        self.last_event_id = last_event_id
        self.events: list[Event] = []
        self.start()

    def run(self) -> None:
        while not self.events or self.events[-1].data != "the end":
            until(lambda: accepts(self.port), "the server is back")
            try:
                stream = Subscriber(self.url, self.channels, self.last_event_id)
            except OSError:
                continue
            try:
                stream.wait_open()
                while not self.events or self.events[-1].data != "the end":
                    self.events.append(stream.event())
                    self.last_event_id = self.events[-1].id
            except (AssertionError, OSError):
                pass  # cut off
            finally:
                stream.close()


def present(server: SseServer, channel: str) -> str:
    """The id of an event that has just been published."""
    with Subscriber(server.url, channel) as reader:
        publish(server.url, channel, "the beginning")
        return reader.event().id


def wait_for_events(publishers: Sequence[Publisher], count: int) -> None:
    """Until so many were accepted since the beginning."""

    def enough() -> bool:
        return sum(len(publisher.accepted) for publisher in publishers) >= count

    until(enough, f"{count} events")


def test_killed_under_load_it_loses_nothing_that_it_accepted(serve: Serve, tmp_path: Path) -> None:
    server = serve(f"--history-file={tmp_path / 'history'}", "--history-size=100000")
    beginning = present(server, "all")
    readers = [
        Reader(server.url, server.port, channels, beginning)
        for channels in (["all"], ["all", "p0", "p1"], ["all", "p2", "quiet"])
    ]
    over = threading.Event()
    publishers = [Publisher(f"p{number}", server.port, over) for number in range(4)]
    for kill in range(1, KILLS + 1):
        wait_for_events(publishers, kill * BETWEEN_KILLS)
        server.kill()
        server.start()
    over.set()
    for each in publishers:
        each.join(PATIENCE)
    publish(server.url, "all", "the end")
    readers.append(Reader(server.url, server.port, ["all"], beginning))  # it missed all of it
    for reader in readers:
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert {event.type for event in reader.events} == {"message"}, "no gap is sent"
        heard = [event.data for event in reader.events]
        assert len(set(heard)) == len(heard), "each once"
        for publisher in publishers:
            own = [message for message in heard if message.startswith(publisher.name)]
            assert own == sorted(own, key=lambda message: int(message.split("-")[1])), "in order"
            assert set(publisher.accepted) <= set(own), "everything that was accepted"
    late = readers.pop().events
    for reader in readers:
        # those who listened may have heard what was being written when the server died, and was not accepted
        assert [event for event in reader.events if event in late] == late, "the same ids for all"


def test_types_and_retry_times_survive_a_restart(serve: Serve, tmp_path: Path) -> None:
    server = serve(f"--history-file={tmp_path / 'history'}")
    beginning = present(server, "base")
    events = [
        {"channel": "base", "event": "price", "message": {"eur": 1}},
        {"channel": "base", "message": "x"},
    ]
    answer = request(
        "POST", f"{server.url}/publish", json.dumps(events), {"Content-Type": "application/json"}
    )
    assert answer.status == 200
    publish(server.url, ["base", "other"], "a\nb")
    server.restart()
    with Subscriber(server.url, "base", beginning) as reader:
        price, plain, lines = reader.events(3)
    assert [price.id, plain.id] == answer.json["ids"]
    assert (price.type, price.data) == ("price", '{"eur":1}')
    assert (plain.type, lines.data) == ("message", "a\nb")
    server.stop()
    assert list(tmp_path.glob("history*")) == [tmp_path / "history"], "one file when it has ended in peace"


def test_a_full_disk_refuses_and_when_there_is_room_it_goes_on(serve: Serve, tmp_path: Path) -> None:
    server = serve(f"--history-file={tmp_path / 'history'}")

    def post(message: str) -> int:
        fields = urlencode({"channel": "base", "message": message})
        return request("POST", f"{server.url}/publish", fields, FORM).status

    beginning = present(server, "base")
    with Subscriber(server.url) as reader:
        assert post("before") == 200
        wal = tmp_path / "history-wal"
        _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        # A file that may not grow is as good as a full disk.
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, most))
        assert [post(f"refused {number}") for number in range(10)] == [503] * 10
        assert reader.data(1) == ["before"], "and those who listen go on"
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
        until(lambda: "written again" in server.log, "the retry")
        assert post("after") == 200
    server.kill()
    server.start()
    with Subscriber(server.url, "base", beginning) as reader:
        heard = reader.data(3)
    assert (heard[0], heard[-1]) == ("before", "after")
    assert server.log.count("no event is accepted") == 1, "logged once"


def refusal(server: SseServer) -> str:
    """The one line with which it refuses to start."""
    ended = run_twistd(server.directory, *server.argv()[1:])
    assert ended.returncode != 0
    said = (line.partition("cyclone-sse: ") for line in (ended.stdout + ended.stderr).splitlines())
    lines = [reason for _, sign, reason in said if sign]
    assert "Traceback" not in ended.stdout + ended.stderr
    assert len(lines) == 1, ended
    return lines[0]


def test_a_file_in_use_is_one_line(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "history"
    serve(f"--history-file={path}")
    (tmp_path / "second").mkdir()
    line = refusal(SseServer(tmp_path / "second", f"--history-file={path}"))
    assert line.startswith(f"--history-file={path} is in use by another server")


@pytest.mark.parametrize("content", [b"Dear diary", b"SQLite format 3\0" + b"\xa5" * 5000])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    assert f"--history-file={path} is damaged" in refusal(SseServer(tmp_path, f"--history-file={path}"))
    assert path.read_bytes() == content


def test_another_broker_is_one_line(tmp_path: Path) -> None:
    server = SseServer(tmp_path, "--history-file=history", "--broker=redis")
    assert refusal(server) == "--history-file works only with --broker=http, not with redis"


def test_the_commands_of_its_page(tmp_path: Path) -> None:
    serve_it, publish_it, hear_it = commands("history.md")
    server = SseServer(tmp_path, serve_it.split()[-1])
    assert serve_it == f"twistd -n cyclone-sse {server.options[0]}"

    def run(line: str) -> str:
        words = shlex.split(line.replace("8888", str(server.port)))
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout

    with server:
        assert run(publish_it) == '{"status": "ok"}'
        server.kill()
        server.start()
        assert "data: hello\n" in run(hear_it)
