"""extras/nginx.conf in a real nginx: events pass at once, silence is survived, resume and addresses work.

The sample runs as it stands; only ports, paths and, where a test says so, times are replaced.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.process import ROOT, accepts, free_port, need, until
from tests.harness.scripted import answer as scripted_answer
from tests.harness.scripted import scripted
from tests.harness.servers import Nginx, SseServer
from tests.integration.conftest import Serve

SAMPLE = ROOT / "extras" / "nginx.conf"


class Front(Nginx):
    """The sample configuration before `server`; `changes` are further replacements, and must apply."""

    def __init__(self, directory: Path, server: SseServer, changes: dict[str, str] | None = None) -> None:
        self.tls_port = free_port()
        self.certificate = directory / "server.crt"
        make_certificate(self.certificate, directory / "server.key")
        (directory / "www").mkdir()
        replace = {
            "listen 80;": "listen 127.0.0.1:{port};",
            "listen [::]:80;": f"listen unix:{directory}/80.socket;",
            "listen 443 ssl": f"listen 127.0.0.1:{self.tls_port} ssl",
            "listen [::]:443 ssl": f"listen unix:{directory}/443.socket ssl",
            "/etc/ssl/example.com.crt": str(self.certificate),
            "/etc/ssl/example.com.key": str(directory / "server.key"),
            "/var/www/example.com": str(directory / "www"),
            "/var/log/nginx": str(directory),
            "127.0.0.1:8888": f"127.0.0.1:{server.port}",
            **(changes or {}),
        }
        text = SAMPLE.read_text()
        for old, new in replace.items():
            assert old in text, f"{old!r} is not in {SAMPLE}"
            text = text.replace(old, new)
        super().__init__(directory, text)

    def is_ready(self) -> bool:
        return accepts(self.port) and accepts(self.tls_port)

    @property
    def tls_url(self) -> str:
        """Where it serves HTTPS, without a slash at the end."""
        return f"https://localhost:{self.tls_port}"

    @property
    def tls(self) -> ssl.SSLContext:
        """A context that trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_directory(path: Path) -> Path:
    """The same, made."""
    path.mkdir()
    return path


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for localhost."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate), "-days", "2"]
    command = [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*command, "-nodes", *names, *files], check=True, capture_output=True)


class Curl:
    """`curl -N` over HTTP/2, whose output is read while it runs."""

    def __init__(self, front: Front, path: str, *options: str) -> None:
        self.output = front.directory / f"curl-{free_port()}.txt"
        with self.output.open("wb") as output:
            command = [need("curl"), "-sSN", "--http2", "--cacert", str(front.certificate), *options]
            self.child = subprocess.Popen(
                [*command, front.tls_url + path], stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def text(self) -> str:
        """What has come so far."""
        return self.output.read_bytes().decode()

    def wait_for(self, text: str) -> str:
        """Wait until `text` has come, and return everything that has."""
        until(lambda: text in self.text, f"{text!r} in {self.output}")
        return self.text

    def __enter__(self) -> Curl:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()


@contextmanager
def front_of(directory: Path, server: SseServer, **changes: str) -> Iterator[Front]:
    """The sample before a server; `proxy_read_timeout="2s"` replaces the time of that directive."""
    text = SAMPLE.read_text()
    lines = {
        re.search(rf"{name} \w+;", text).group(): f"{name} {value};"  # type: ignore[union-attr]
        for name, value in changes.items()
    }
    directory.mkdir()
    with Front(directory, server, lines) as front:
        yield front


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SseServer]:
    """A server with the default options but for the addresses in its log."""
    with SseServer(tmp_path_factory.mktemp("server"), "--trust-proxy=1", "--log-level=debug") as server:
        yield server


@pytest.fixture(scope="module")
def front(daemon: SseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The sample before it, with a patience just above the server's pings of 30 s."""
    with front_of(tmp_path_factory.mktemp("nginx") / "front", daemon, proxy_read_timeout="32s") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def silent(daemon: SseServer, front: Front) -> Iterator[tuple[Curl, float]]:
    """A subscriber that receives nothing while the other tests run, and when it began."""
    with Curl(front, "/sse/?channels=silent") as curl:
        until(lambda: "silent" in dict(request("GET", daemon.url + "/stats").json), "the subscriber")
        yield curl, time.monotonic()


def test_events_pass_at_once_over_http2(daemon: SseServer, front: Front) -> None:
    with Curl(front, "/sse/?channels=a", "-i") as curl:
        assert curl.wait_for("\r\n\r\n\n\n").startswith("HTTP/2 200")  # the stream is open before any event
        for number in range(3):
            publish(daemon.url, "a", str(number))
            curl.wait_for(f"data: {number}\n\n")


def test_long_polling_and_stats_pass(daemon: SseServer, front: Front) -> None:
    poll = {"X-Requested-With": "XMLHttpRequest"}
    with closing(Subscriber(front.tls_url, "poll", path="/sse/", tls=front.tls, headers=poll)) as client:
        stats = front.tls_url + "/sse/stats"
        until(lambda: ["poll", 1] in request("GET", stats, tls=front.tls).json, "the poll")
        assert request("GET", f"{stats}?channel=poll", tls=front.tls).json == [["poll", 1]]
        publish(daemon.url, "poll", "1")
        assert client.wait_end().endswith(b"data: 1\n\n")


def test_resume(daemon: SseServer, front: Front) -> None:
    with Subscriber(front.tls_url, "a", path="/sse/", tls=front.tls) as client:
        publish(daemon.url, "a", "1")
        assert client.data(1) == ["1"]
        position = client.last_event_id
    publish(daemon.url, "a", "2")
    with Subscriber(front.tls_url, "a", position, path="/sse/", tls=front.tls) as client:
        assert client.data(1) == ["2"]
    with Subscriber(
        front.tls_url, "a", path="/sse/", query={"lastEventId": position}, tls=front.tls
    ) as client:
        assert client.data(1) == ["2"]


def test_the_page_shows_a_part_of_it() -> None:
    shown = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "proxies.md").read_text(), re.DOTALL)
    assert len(shown) == 1
    lines = [line.partition("#")[0].strip() for line in shown[0].splitlines()]
    sample = [line.partition("#")[0].strip() for line in SAMPLE.read_text().splitlines()]
    assert [line for line in lines if line not in sample] == []


def test_publishing_and_stats_are_for_this_machine_alone(daemon: SseServer, front: Front) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with Subscriber(front.tls_url, "a", path="/sse/", tls=front.tls) as client:
        answer = request("POST", front.tls_url + "/sse/publish", "channel=a&message=1", form, front.tls)
        assert answer.json == {"status": "ok"}
        assert client.data(1) == ["1"]
    # from another address: this machine's 127.0.0.2 is as foreign to `allow 127.0.0.1` as any
    command = [need("curl"), "-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", "127.0.0.2", "-k"]
    for what in ("publish -d channel=a&message=1", "disconnect -d channel=a", "stats"):
        path, *options = what.split()
        url = f"https://127.0.0.1:{front.tls_port}/sse/{path}"
        forbidden = subprocess.run([*command, *options, url], check=True, capture_output=True, text=True)
        assert forbidden.stdout == "403", what


def test_plain_http_is_sent_to_https(front: Front) -> None:
    answer = request("GET", front.url + "/sse/?channels=a")
    assert (answer.status, answer.headers["location"]) == (301, "https://127.0.0.1/sse/?channels=a")


def test_the_log_has_the_client_s_address(daemon: SseServer, front: Front) -> None:
    with Curl(
        front,
        "/sse/?channels=named",
        "--interface",
        "127.0.0.3",
        "-k",
        "--resolve",
        f"localhost:{front.tls_port}:127.0.0.1",
        "-H",
        "X-Forwarded-For: 203.0.113.9",
    ):
        until(lambda: re.search(r"127\.0\.0\.3 subscribes to .*named", daemon.log), "the log line")
    until(lambda: re.search(r"127\.0\.0\.3 has left .*named", daemon.log), "the log line")
    assert "203.0.113.9" not in daemon.log  # nginx puts its own word in place of the browser's


def test_a_browser_cannot_choose_the_host_and_scheme_of_its_url(serve: Serve, tmp_path: Path) -> None:
    """An application that serves several hosts would decide by the session of another one."""
    forged = {"X-Forwarded-Host": "other.example", "X-Forwarded-Proto": "http"}
    with scripted(scripted_answer("401 Unauthorized")) as application:
        server = serve("--trust-proxy=1", f"--auth-url={application.url}/auth")
        with front_of(tmp_path / "front", server) as front:
            request("GET", front.tls_url + "/sse/?channels=a", headers=forged, tls=front.tls)
        (asked,) = application.asked
    assert b"\r\nX-Forwarded-Host: localhost\r\n" in asked
    assert b"\r\nX-Forwarded-Proto: https\r\n" in asked


def test_without_trust_the_header_is_ignored(serve: Serve, tmp_path: Path) -> None:
    server = serve("--log-level=debug")
    forged = {"X-Forwarded-For": "203.0.113.9"}
    with Subscriber(server.url, "a", headers=forged):
        until(lambda: "127.0.0.1 subscribes" in server.log, "the log line")
    with (
        front_of(tmp_path / "front", server) as front,
        Curl(front, "/sse/?channels=b", "--interface", "127.0.0.3"),
    ):
        until(lambda: re.search(r"127\.0\.0\.1 subscribes to .*b", server.log), "the log line")
    assert "203.0.113.9" not in server.log
    assert "127.0.0.3" not in server.log


def test_who_comes_while_the_server_is_away_is_told_to_come_again(serve: Serve, tmp_path: Path) -> None:
    """An error page would end a native EventSource. Permanent refusals are still passed on unchanged."""
    server = serve("--max-clients=1", "--http-secret=k")
    origin = {"Origin": "https://example.net"}
    with front_of(tmp_path / "front", server) as front:
        with Subscriber(server.url, "a"):
            full = request("GET", front.tls_url + "/sse/?channels=a", headers=origin, tls=front.tls)
        assert request("GET", front.tls_url + "/sse/", tls=front.tls).status == 400
        assert request("POST", front.tls_url + "/sse/publish", "x=1", tls=front.tls).status == 415
        server.kill()
        url = front.tls_url + "/sse/?channels=a&access_token=secret"
        away = request("GET", url, headers=origin, tls=front.tls)
        assert request("POST", front.tls_url + "/sse/publish", "x=1", tls=front.tls).status == 502
        log = front.directory / "sse-away.log"
        until(lambda: log.read_text().count("\n") == 2, "two lines")
        lines = log.read_text().splitlines()
    assert [line.partition('"')[2].rpartition(" ")[0] for line in lines] == [
        'GET /sse/" 200 upstream=503',
        'GET /sse/" 200 upstream=502',
    ]
    assert [full.headers["x-sse-upstream"], away.headers["x-sse-upstream"]] == ["503", "502"]
    for answer in (full, away):
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["access-control-allow-origin"] == "https://example.net"
        assert re.fullmatch(rb"retry: (2000|3000|4500|6000)\n\n", answer.body)


def test_no_token_is_logged(daemon: SseServer, front: Front) -> None:
    with Curl(front, "/sse/?channels=token&access_token=secret") as curl:
        curl.wait_for("\n\n")
    log = front.directory / "sse.log"
    until(log.read_text, "a line for the stream that has ended")
    assert "secret" not in log.read_text() + front.log


def test_the_application_knows_how_the_browser_came(serve: Serve, tmp_path: Path) -> None:
    """The lines of the sample for an application, which are comments in it."""
    (lines,) = re.findall(r"    # location / \{\n(?:    # .*\n)*?    # \}\n", SAMPLE.read_text())
    with scripted() as application:
        where = {"127.0.0.1:8000": application.url.removeprefix("http://")}
        changes = {lines: lines.replace("    # ", "    ").replace(*where.popitem())}
        with Front(make_directory(tmp_path / "front"), serve(), changes) as front:
            assert request("GET", front.tls_url + "/", tls=front.tls).status == 200
        (asked,) = application.asked
    assert b"\r\nX-Forwarded-Proto: https\r\n" in asked
    assert b"\r\nHost: localhost\r\n" in asked


@pytest.mark.slow
def test_pings_keep_a_silent_stream_open(serve: Serve, tmp_path: Path) -> None:
    """With both times divided by thirty; and the same without the pings, which ends."""
    pinging = serve("--ping-interval=1")
    quiet = serve("--ping-interval=30")
    with (
        front_of(tmp_path / "one", pinging, proxy_read_timeout="2s") as one,
        front_of(tmp_path / "two", quiet, proxy_read_timeout="2s") as two,
        Curl(one, "/sse/?channels=a") as kept,
        Curl(two, "/sse/?channels=a") as lost,
    ):
        until(lambda: lost.child.poll() is not None, "nginx ends the stream without pings")
        until(lambda: kept.text.count(": sse ping") >= 3, "three pings")
        publish(pinging.url, "a", "1")
        kept.wait_for("data: 1\n\n")


@pytest.mark.slow
def test_a_silence_of_35_seconds(daemon: SseServer, silent: tuple[Curl, float]) -> None:
    """In real time, and last in this file: the silence began with the first of its tests."""
    curl, began = silent
    until(lambda: time.monotonic() - began > 35, "35 seconds")
    assert curl.child.poll() is None
    publish(daemon.url, "silent", "1")
    curl.wait_for("data: 1\n\n")
    assert curl.text.count(": sse ping") == 1
    assert curl.text.count("data:") == 1
