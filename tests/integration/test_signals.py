"""The daemon when signals come, the wall clock is set, or no descriptor is free."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.harness.certificates import tls_options, write_certificates
from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port, left_out, need, until
from tests.harness.servers import SseServer
from tests.harness.twistd import run_plugin
from tests.integration.conftest import Serve


def faketime(directory: Path) -> tuple[dict[str, str], Path]:
    """An environment in which the wall clock is off by what a file says, and that file."""
    need("faketime")
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        left_out("libfaketime is not installed")
    offset = directory / "offset"
    offset.write_text("+0")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }, offset


@pytest.mark.slow
def test_the_wall_clock_may_be_set_back(serve: Serve, tmp_path: Path) -> None:
    env, offset = faketime(tmp_path)
    server = serve("--ping-interval=0.3", env=env)
    with Subscriber(server.url) as reader:
        assert reader.wait_comment() == "sse ping"
        offset.write_text("-1h")
        for number in range(3):
            reader.wait_comment()
            publish(server.url, "base", str(number))
        ids = [event.id for event in reader.events(3)]
    assert ids == sorted(ids), "the ids go on growing"
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.settimeout(PATIENCE)
        silent.sendall(b"GET / HTTP/1.1\r\n")
        assert b" 408 " in silent.recv(1000), "a deadline passes, too"


def test_sighup_goes_on_in_a_new_log_file(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "sse.log"
    server = LoggingServer(tmp_path, log)
    with server, Subscriber(server.url) as reader:
        log.rename(tmp_path / "sse.log.1")
        server.send_signal(signal.SIGHUP)
        until(lambda: log.exists() and "opened the log" in log.read_text(), "a new log")
        publish(server.url, "base", "still there")
        assert reader.data(1) == ["still there"]
    assert "serves http" in (tmp_path / "sse.log.1").read_text()
    assert "Server Shut Down" in log.read_text()


def test_sigusr1_rotates_the_log(tmp_path: Path) -> None:
    log = tmp_path / "sse.log"
    server = LoggingServer(tmp_path, log)
    with server:
        server.send_signal(signal.SIGUSR1)
        until((tmp_path / "sse.log.1").exists, "the rotated log")
        assert request("GET", f"{server.url}/stats").status == 200


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_no_signal_but_the_usual_ones_ends_it(serve: Serve, number: signal.Signals) -> None:
    server = serve()
    with Subscriber(server.url) as reader:
        server.send_signal(number)
        publish(server.url, "base", "1")
        assert reader.data(1) == ["1"]


# An application that a signal reaches while it is made, or while its broker starts.
SIGNALLED = """
import os
from cyclone_sse import server
from cyclone_sse.brokers import HttpBroker

def send(when):
    name, _, number = os.environ["SIGNAL"].partition("=")
    if name == when and os.environ.pop("FIRST", None):
        os.kill(os.getpid(), int(number))

class Broker(HttpBroker):
    def start(self):
        send("start")
        return super().start()

class App(server.App):
    def __init__(self, settings):
        send("make")
        super().__init__(settings)

    def make_broker(self, settings, reactor):
        return Broker(settings, reactor=reactor)
"""


def signalled(directory: Path, when: str, number: signal.Signals) -> dict[str, str]:
    """Write the application; returns its environment."""
    (directory / "signalled.py").write_text(SIGNALLED)
    return {"SIGNAL": f"{when}={int(number)}", "FIRST": "1", "PYTHONPATH": f"{ROOT}:{directory}"}


@pytest.mark.parametrize("when", ["make", "start"])
def test_sighup_during_the_start_is_obeyed_after_it(serve: Serve, tmp_path: Path, when: str) -> None:
    server = serve("--app=signalled.App", env=signalled(tmp_path, when, signal.SIGHUP))
    until(lambda: "read certificates" in server.log, "the files were read again")
    publish(server.url, "base", "x")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_order_to_stop_during_the_start_is_obeyed_after_it(tmp_path: Path, number: signal.Signals) -> None:
    env = signalled(tmp_path, "start", number)
    ended = run_plugin(tmp_path, "--app=signalled.App", f"--port={free_port()}", **env)
    assert ended.returncode in (0, -number)
    assert "Server Shut Down" in ended.stdout


# An application whose broker runs a program while the server serves.
RUNNING = """
import subprocess
from cyclone_sse import server
from cyclone_sse.brokers import HttpBroker

class Broker(HttpBroker):
    def start(self):
        self.program = subprocess.Popen(["sleep", "1000"])
        return super().start()

    def stop(self):
        self.program.terminate()
        print("the program ended with", self.program.wait())
        return super().stop()

class App(server.App):
    def make_broker(self, settings, reactor):
        return Broker(settings, reactor=reactor)
"""


def test_a_program_that_an_application_starts_can_be_stopped(serve: Serve, tmp_path: Path) -> None:
    """It inherited blocked signals, and the server waited for it forever."""
    (tmp_path / "running.py").write_text(RUNNING)
    server = serve("--app=running.App", env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    server.stop()
    assert "the program ended with -15" in server.log


class LoggingServer(SseServer):
    """A daemon that logs to a file by twistd's own option."""

    def __init__(self, directory: Path, log: Path, *flags: str) -> None:
        super().__init__(directory, flags=[f"--logfile={log}", *flags])
        self.file = log

    def is_ready(self) -> bool:
        return self.file.exists() and "cyclone-sse serves http" in self.file.read_text()


# A file for `twistd -y`, which makes the service itself.
TAC = """
from twisted.application.service import Application
from cyclone_sse.daemon.plugin import Options, makeService

options = Options()
options.parseOptions(["--port={port}"])
application = Application("cyclone-sse")
makeService(options).setServiceParent(application)
"""


class TacServer(LoggingServer):
    """The same daemon, by `twistd -y`."""

    def argv(self) -> list[str]:
        file = self.file.with_name("sse.tac")
        file.write_text(TAC.format(port=self.port))
        return [str(self.twistd), "-n", "--pidfile=", *self.flags, "-y", str(file)]


def test_with_a_file_of_twistd_its_own_rotation_stays(tmp_path: Path) -> None:
    with TacServer(tmp_path, tmp_path / "sse.log") as server:
        server.send_signal(signal.SIGUSR1)
        until((tmp_path / "sse.log.1").exists, "the rotated log")
        assert request("GET", f"{server.url}/stats").status == 200


def test_with_uid_the_log_and_the_pid_file_are_that_user_s(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        left_out("only root can become another user")
    user = pwd.getpwnam("daemon")
    run = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    run.chmod(0o755)
    os.chown(run, user.pw_uid, user.pw_gid)
    log, pid = run / "sse.log", run / "sse.pid"
    server = LoggingServer(tmp_path, log, "--uid=daemon", f"--pidfile={pid}")
    try:
        with server:
            assert log.stat().st_uid == user.pw_uid
            assert int(pid.read_text()) == server.pid
            log.rename(run / "sse.log.1")
            server.send_signal(signal.SIGHUP)
            until(lambda: log.exists() and "opened the log" in log.read_text(), "a new log")
        assert not pid.exists(), "it removes its pid file"
    finally:
        subprocess.run(["rm", "-rf", run], check=True)


class Ignoring(SseServer):
    """A daemon that is started with a signal ignored, as by nohup, or as a background job of a script."""

    ignored = signal.SIGINT

    def argv(self) -> list[str]:
        return ["sh", "-c", f"trap '' {int(self.ignored)}; exec \"$@\"", "sh", *super().argv()]


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(
    tmp_path: Path, ignored: signal.Signals
) -> None:
    server = Ignoring(tmp_path)
    server.ignored = ignored
    with server, Subscriber(server.url) as reader:
        for _ in range(2):
            os.kill(server.pid, ignored)
        publish(server.url, "base", "still there")
        assert reader.data(1) == ["still there"]
    assert "Handlers" not in server.log
    assert "again" not in server.log, "no reload"


def test_sigterm_ignored_stays_ignored_and_sigint_ends_it(tmp_path: Path) -> None:
    server = Ignoring(tmp_path)
    server.ignored = signal.SIGTERM
    with server:
        os.kill(server.pid, signal.SIGTERM)
        publish(server.url, "base", "still there")
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() in (0, -signal.SIGINT)


def test_a_log_that_cannot_be_opened_keeps_no_certificate_from_being_read(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    files = write_certificates(tmp_path)
    server = LoggingServer(tmp_path, logs / "sse.log")
    server.options += tls_options(files)
    with server:
        (files / "leaf.key").write_text("damaged")
        server.file = tmp_path / "gone" / "sse.log"
        logs.rename(tmp_path / "gone")
        server.send_signal(signal.SIGHUP)
        until(lambda: "could not read everything again" in server.file.read_text(), "the complaint")
        (line,) = [line for line in server.file.read_text().splitlines() if "could not read" in line]
        assert "No such file or directory" in line
        assert "leaf.key does not contain" in line
