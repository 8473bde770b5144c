"""Several workers on the same ports: replaced one by one, back when killed, and gone with their parent."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness.certificates import tls_options, write_certificates
from tests.harness.clients import Subscriber, request
from tests.harness.patience import PATIENCE
from tests.harness.process import accepts, connections, free_port, until
from tests.harness.servers import RedisServer, SseServer
from tests.harness.twistd import run_plugin

WORKERS = 2


class Crew(SseServer):
    """A daemon with workers; signals go to the parent alone, as `kill` sends them."""

    def __init__(self, directory: Path, redis: RedisServer, *options: str) -> None:
        broker = ["--broker=redis-stream", f"--redis-port={redis.port}"]
        super().__init__(directory, f"--workers={WORKERS}", *broker, *options)

    def send_signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    @property
    def workers(self) -> list[int]:
        """The processes of the workers."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sorted(int(number) for number in found)


@pytest.fixture
def crew(tmp_path: Path, redis_server: RedisServer) -> Iterator[Crew]:
    """A daemon with workers that share a Redis."""
    with Crew(tmp_path, redis_server, "--drain=0.5") as running:
        yield running


def alive(pid: int) -> bool:
    """Whether that process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def publish(crew: Crew, message: str) -> None:
    """Publish, again if the worker that was asked went away meanwhile."""
    body = json.dumps({"channel": "base", "message": message})
    answer = request("POST", f"{crew.url}/publish", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer


def test_connections_are_spread_and_all_hear_all(crew: Crew) -> None:
    assert len(crew.workers) == WORKERS
    readers = [Subscriber(crew.url).wait_open() for _ in range(40)]
    publish(crew, "to all")
    assert [reader.data(1) for reader in readers] == [["to all"]] * 40
    counts = [connections(pid, crew.port) for pid in crew.workers]
    assert min(counts) >= 5, f"spread over the workers: {counts}"
    for reader in readers:
        reader.close()


def test_log_lines_name_their_worker_and_the_pid_file_is_the_parent_s(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    crew = Crew(tmp_path, redis_server)
    crew.flags = [f"--pidfile={tmp_path / 'sse.pid'}"]
    with crew:
        assert int((tmp_path / "sse.pid").read_text()) == crew.pid
        for number in range(1, WORKERS + 1):
            assert re.search(rf"\[worker {number}\] .*cyclone-sse serves http", crew.log)
    assert not (tmp_path / "sse.pid").exists()


def test_a_killed_worker_is_back(crew: Crew) -> None:
    first, second = crew.workers
    os.kill(first, signal.SIGKILL)
    until(lambda: len(crew.workers) == WORKERS and first not in crew.workers, "another worker")
    assert second in crew.workers
    until(lambda: len(re.findall("cyclone-sse serves http", crew.log)) == WORKERS + 1, "it to serve")


def test_none_stays_behind_when_the_parent_is_killed(crew: Crew) -> None:
    workers = crew.workers
    with Subscriber(crew.url) as reader:
        os.kill(crew.pid, signal.SIGKILL)
        crew.wait()
        reader.wait_end()
        until(lambda: not any(alive(pid) for pid in workers), "the workers to go")
    assert not accepts(crew.port)


def test_sigterm_drains_all(crew: Crew) -> None:
    readers = [Subscriber(crew.url).wait_open() for _ in range(10)]
    workers = crew.workers
    crew.send_signal(signal.SIGTERM)
    for reader in readers:
        assert b"retry: " in reader.wait_end()
        reader.close()
    assert crew.wait() in (0, -signal.SIGTERM)
    assert not any(alive(pid) for pid in workers)
    crew.check_log()


def test_a_second_signal_ends_all_at_once(tmp_path: Path, redis_server: RedisServer) -> None:
    with Crew(tmp_path, redis_server, "--drain=600") as crew:
        readers = [Subscriber(crew.url).wait_open() for _ in range(20)]
        workers = crew.workers
        crew.send_signal(signal.SIGTERM)
        # As a unit or a terminal does: the workers get the signal, too, and go on draining.
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        until(lambda: not accepts(crew.port), "the ports to be closed")
        assert all(alive(pid) for pid in workers)
        crew.send_signal(signal.SIGTERM)
        for reader in readers:
            reader.wait_end()
            reader.close()
        assert crew.wait() in (0, -signal.SIGTERM)
        assert not any(alive(pid) for pid in workers)


class Listener(threading.Thread):
    """A client that reconnects with the id of the last event, as a browser does."""

    def __init__(self, url: str, last: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.expected = last
        self.received: list[str] = []
        self.types: list[str] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Listen until the last message has come."""
        last_event_id = "earliest"
        try:
            while self.expected not in self.received:
                with Subscriber(self.url, last_event_id=last_event_id) as reader:
                    while self.expected not in self.received:
                        try:
                            event = reader.event()
                        except AssertionError:
                            if not reader.ended:
                                raise
                            break
                        self.types.append(event.type)
                        self.received.append(event.data)
                    last_event_id = reader.last_event_id or last_event_id
        except BaseException as failure:
            self.failure = failure


def test_sighup_replaces_all_under_load_and_nothing_is_lost(crew: Crew) -> None:
    before = crew.workers
    count, tick = 150, 0.02
    listeners = [Listener(crew.url, str(count)) for _ in range(10)]
    for listener in listeners:
        listener.start()
    crew.send_signal(signal.SIGHUP)
    for number in range(1, count + 1):
        publish(crew, str(number))
        time.sleep(tick)
    until(lambda: "all workers were replaced" in crew.log, "the workers to be replaced")
    for listener in listeners:
        listener.join(PATIENCE)
    assert not set(before) & set(crew.workers)
    for listener in listeners:
        assert listener.failure is None, listener.failure
        assert listener.received == [str(number) for number in range(1, count + 1)]
        assert set(listener.types) == {"message"}, "no gap is sent"


def test_a_new_worker_that_cannot_start_leaves_the_old_ones(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    app = tmp_path / "mine.py"
    app.write_text("from cyclone_sse.server import App\n")
    with Crew(tmp_path, redis_server, "--app=mine.App") as crew:
        before = crew.workers
        app.write_text(
            f"import os\nfrom cyclone_sse.server import App\nos.getppid() == {crew.pid} and 1 / 0\n"
        )
        with Subscriber(crew.url) as reader:
            crew.send_signal(signal.SIGHUP)
            until(lambda: "did not start" in crew.log, "the complaint")
            publish(crew, "still there")
            assert reader.data(1) == ["still there"]
        assert crew.workers == before


def test_an_options_file_that_was_edited_changes_no_ports(tmp_path: Path, redis_server: RedisServer) -> None:
    """A worker without --admin-port did not know what to do with the parent's socket for it."""
    files, admin = write_certificates(tmp_path), free_port()
    config = tmp_path / "sse.conf"
    config.write_text(f"use-ssl=1\nadmin-port={admin}\n")
    tls = tls_options(files)[1:]
    with Crew(tmp_path, redis_server, f"--config={config}", *tls) as crew:
        before = crew.workers
        config.write_text("use-ssl=0\n")
        crew.send_signal(signal.SIGHUP)
        until(lambda: "all workers were replaced" in crew.log, "new workers")
        assert not set(before) & set(crew.workers)
        expected = "only after a restart of the server: --use-ssl, --admin-port"
        assert crew.log.count(expected) == WORKERS
        assert request("GET", f"http://127.0.0.1:{admin}/readyz").status == 200
        context = ssl.create_default_context(cafile=str(files / "root.pem"))
        assert request("GET", f"{crew.ssl_url}/stats", tls=context).status == 200


def test_workers_need_a_broker_that_all_share(tmp_path: Path) -> None:
    ended = run_plugin(tmp_path, "--workers=2")
    assert ended.returncode != 0
    assert len((ended.stdout + ended.stderr).splitlines()) == 1
    assert "--workers needs a broker that all share" in ended.stderr


def test_workers_share_tls_and_a_unix_socket(tmp_path: Path, redis_server: RedisServer) -> None:
    path = tmp_path / "sse.sock"
    context = ssl.create_default_context(cafile=str(write_certificates(tmp_path) / "root.pem"))
    options = [*tls_options(tmp_path), f"--endpoint=unix:{path}", "--endpoint=tcp:{port}:interface=127.0.0.1"]
    crew = Crew(tmp_path, redis_server)
    crew.options += [option.replace("{port}", str(crew.port)) for option in options]
    with crew, Subscriber(crew.ssl_url, tls=context) as reader:
        publish(crew, "one")
        before = crew.workers
        crew.send_signal(signal.SIGHUP)
        until(lambda: "all workers were replaced" in crew.log, "the workers to be replaced")
        assert not set(before) & set(crew.workers)
        assert path.exists(), "it stays while workers come and go"
        assert reader.data(1) == ["one"]
        with Subscriber(crew.ssl_url, tls=context) as other:
            publish(crew, "two")
            assert other.data(1) == ["two"]
    assert not path.exists()


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(crew: Crew) -> None:
    hung, other = crew.workers
    until(lambda: len(re.findall("cyclone-sse serves http", crew.log)) == WORKERS, "both to serve")
    os.kill(hung, signal.SIGSTOP)
    until(lambda: len(crew.workers) == WORKERS and hung not in crew.workers, "another worker")
    assert other in crew.workers
    assert "hangs: no report" in crew.log
    until(lambda: len(re.findall("cyclone-sse serves http", crew.log)) == WORKERS + 1, "it to serve")


def test_a_worker_that_was_sent_sigterm_has_a_successor_before_it_has_drained(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with Crew(tmp_path, redis_server, "--drain=600") as crew:
        readers = [Subscriber(crew.url).wait_open() for _ in range(20)]
        first, second = crew.workers
        os.kill(first, signal.SIGTERM)
        until(lambda: len(crew.workers) == WORKERS + 1, "a successor")
        assert {first, second} < set(crew.workers), "the first drains"
        until(lambda: len(re.findall("cyclone-sse serves http", crew.log)) == WORKERS + 1, "it to serve")
        for _ in range(20):
            publish(crew, "each connection is answered")
        for reader in readers:
            reader.close()
        crew.kill()


def test_a_very_long_line_of_a_worker_does_not_mute_it(tmp_path: Path, redis_server: RedisServer) -> None:
    app = tmp_path / "mine.py"
    app.write_text(
        "import os\nfrom cyclone_sse.server import App as Base\n"
        "class App(Base):\n"
        "    def __init__(self, settings):\n"
        "        print('x' * 100000)\n"
        "        super().__init__(settings)\n"
    )
    with Crew(tmp_path, redis_server, "--app=mine.App") as crew:
        until(lambda: len(re.findall("cyclone-sse serves http", crew.log)) == WORKERS, "both to serve")
        assert "[cut]" in crew.log
        assert max(map(len, crew.log_of_this_run.splitlines()[5:])) < 110_000


def test_flags_of_twistd_reach_the_workers(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "run").mkdir()
    crew = Crew(tmp_path, redis_server)
    crew.flags = ["--reactor=poll", "--umask=027", "--rundir=run"]
    with crew:
        for pid in crew.workers:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert {b"--reactor=poll", b"--umask=27", f"--rundir={tmp_path}/run".encode()} <= set(words)
            link = f"/proc/{pid}/cwd"
            until(partial(os.path.samefile, link, tmp_path / "run"), "its directory")
            assert "Umask:\t0027" in Path(f"/proc/{pid}/status").read_text()


def test_a_second_start_says_that_the_address_is_in_use(crew: Crew) -> None:
    second = subprocess.run(
        crew.argv(),
        cwd=crew.cwd,
        env={**os.environ, **crew.env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode != 0
    assert f"cannot listen on 127.0.0.1:{crew.port}: Address already in use" in second.stdout + second.stderr
