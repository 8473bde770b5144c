"""The configurations of docs/proxies.md for Apache, Caddy and HAProxy, each run as it is shown.

Only addresses, paths and times are replaced, and what is the machine's and not the site's is put around.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.harness.clients import Subscriber, publish, request, stats
from tests.harness.docs import page_path, shown
from tests.harness.process import Process, accepts, free_port, need, until
from tests.harness.scripted import answer, scripted
from tests.harness.servers import Nginx, SseServer

PATIENCE = "33s"  # of the proxies with a silent server, whose pings come each 30 s
MODULES = ["mpm_event", "authz_core", "headers", "proxy", "proxy_http"]
FORGED = {"X-Forwarded-For": "203.0.113.9"}


class Proxy(Process):
    """A proxy in front of a server; `changes` are replaced in what the page shows, and must be there."""

    file = kind = ""

    def __init__(self, directory: Path, server: SseServer) -> None:
        super().__init__(directory, env={"HOME": str(directory)}, cwd=directory)
        self.program = need(self.name)
        self.port = free_port()
        text = shown("proxies.md", self.file, self.kind)
        for old, new in {"127.0.0.1:8888": f"127.0.0.1:{server.port}", **self.changes()}.items():
            assert old in text, f"{old!r} is not in {self.file}"
            text = text.replace(old, new)
        self.config = directory / self.file
        self.config.write_text(self.around(text))

    def changes(self) -> dict[str, str]:
        """What is replaced."""
        raise NotImplementedError

    def around(self, text: str) -> str:
        """The whole configuration."""
        return text

    def is_ready(self) -> bool:
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


class Apache(Proxy):
    """Debian's apache2 without Debian's configuration."""

    name, file, kind = "apache2", "apache.conf", "apache"

    def changes(self) -> dict[str, str]:
        return {"timeout=300": f"timeout={PATIENCE.rstrip('s')}"}

    def around(self, text: str) -> str:
        load = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES
        )
        return (
            f"{load}\nUser www-data\nGroup www-data\nServerName localhost\nListen 127.0.0.1:{self.port}\n"
            "ErrorLog /dev/stderr\n"
            f"PidFile {self.directory}/apache.pid\nDefaultRuntimeDir {self.directory}\n"
            f"<VirtualHost *>\n{text}</VirtualHost>\n"
        )

    def argv(self) -> Sequence[str]:
        return [self.program, "-DFOREGROUND", "-d", str(self.directory), "-f", str(self.config)]

    def stop(self) -> None:
        """Kill it: asked to end, it lets its threads wait ten seconds for the next event of the streams."""
        self.kill()


class Caddy(Proxy):
    """Debian's caddy."""

    name, file, kind = "caddy", "Caddyfile", "caddy"

    def changes(self) -> dict[str, str]:
        return {
            "example.com {": f"http://127.0.0.1:{self.port} {{",
            "/var/www/example.com": str(self.directory),
        }

    def around(self, text: str) -> str:
        return "{\n admin off\n}\n" + text

    def argv(self) -> Sequence[str]:
        return [self.program, "run", "--adapter", "caddyfile", "--config", str(self.config)]


class HAProxy(Proxy):
    """Debian's haproxy."""

    name, file, kind = "haproxy", "haproxy.cfg", "haproxy"

    def changes(self) -> dict[str, str]:
        bind = ":443 ssl crt /etc/ssl/example.com.pem alpn h2,http/1.1"
        return {bind: f"127.0.0.1:{self.port}", "300s": PATIENCE}

    def argv(self) -> Sequence[str]:
        return [self.program, "-db", "-f", str(self.config)]


KINDS: list[type[Proxy]] = [Apache, Caddy, HAProxy]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SseServer]:
    """The server behind all of them."""
    with SseServer(tmp_path_factory.mktemp("server"), "--trust-proxy=1", "--log-level=debug") as server:
        yield server


class Fronts:
    """A proxy of each kind before one server, started when first asked for; each with a silent stream."""

    def __init__(self, server: SseServer, directories: pytest.TempPathFactory) -> None:
        self.server = server
        self.directories = directories
        self.proxies: dict[type[Proxy], Proxy] = {}
        self.silent: dict[type[Proxy], tuple[Subscriber, float]] = {}  # and since when
        self.ends = ExitStack()

    def of(self, kind: type[Proxy]) -> Proxy:
        """The proxy of this kind."""
        if kind not in self.proxies:
            proxy = self.ends.enter_context(kind(self.directories.mktemp(kind.name), self.server))
            client = self.ends.enter_context(Subscriber(proxy.url, f"silent-{kind.name}", path="/sse/"))
            client.keep_open()
            self.proxies[kind], self.silent[kind] = proxy, (client, time.monotonic())
        return self.proxies[kind]


@pytest.fixture(scope="module")
def fronts(daemon: SseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    """All proxies."""
    found = Fronts(daemon, tmp_path_factory)
    with found.ends:
        yield found


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def front(request: pytest.FixtureRequest, fronts: Fronts) -> Proxy:
    """Each proxy in turn."""
    return fronts.of(request.param)


def test_events_pass_at_once(daemon: SseServer, front: Proxy) -> None:
    with Subscriber(front.url, "a", path="/sse/").wait_open() as client:  # open before any event
        assert client.headers["content-type"].startswith("text/event-stream")
        for number in range(3):
            publish(daemon.url, "a", str(number))
            assert client.data(1) == [str(number)]
        position = client.last_event_id

    def is_gone() -> bool:
        publish(daemon.url, "a", "later")  # some proxies see it only when they write
        return "a" not in stats(daemon.url)

    until(is_gone, "the server knows that the client has left")
    with Subscriber(front.url, "a", position, path="/sse/") as client:
        assert client.data(1) == ["later"]


def test_long_polling_passes(daemon: SseServer, front: Proxy) -> None:
    poll = {"X-Requested-With": "XMLHttpRequest"}
    with closing(Subscriber(front.url, "b", path="/sse/", headers=poll)) as client:
        until(lambda: "b" in stats(daemon.url), "the poll")
        publish(daemon.url, "b", "1")
        assert client.wait_end().endswith(b"data: 1\n\n")


def test_the_log_has_the_client_s_address(daemon: SseServer, front: Proxy) -> None:
    with Subscriber(front.url, f"named-{front.name}", path="/sse/", headers=FORGED):
        until(lambda: f"named-{front.name}" in daemon.log, "the log line")
    assert f"127.0.0.1 subscribes to ['named-{front.name}']" in daemon.log
    assert "203.0.113.9" not in daemon.log


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_browser_cannot_choose_the_host_and_scheme_of_its_url(kind: type[Proxy], tmp_path: Path) -> None:
    """An application that serves several hosts would decide by the session of another one."""
    https = kind is HAProxy  # its sample has only a port for https
    forged = {"X-Forwarded-Host": "other.example", "X-Forwarded-Proto": "http" if https else "https"}
    with ExitStack() as stack:
        application = stack.enter_context(scripted(answer("401 Unauthorized")))
        options = ["--trust-proxy=1", f"--auth-url={application.url}/auth"]
        server = stack.enter_context(SseServer(tmp_path, *options))
        proxy = stack.enter_context(kind(tmp_path, server))
        assert request("GET", f"{proxy.url}/sse/?channels=a", headers=forged).status == 401
        (asked,) = application.asked
    assert f"\r\nX-Forwarded-Host: 127.0.0.1:{proxy.port}\r\n".encode() in asked
    assert b"\r\nX-Forwarded-Proto: " + (b"https" if https else b"http") + b"\r\n" in asked


@pytest.mark.parametrize(
    "path", ["publish", "disconnect", "stats", "/stats", "%73tats", "./stats", "x/../stats"]
)
def test_nothing_else_passes(front: Proxy, path: str) -> None:
    for method, body in (("GET", None), ("POST", "channel=a&message=1")):
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        assert request(method, f"{front.url}/sse/{path}", body, form).status in (403, 404, 405, 503)


class ReloadedHAProxy(HAProxy):
    """One process of HAProxy, which ends one second after the SIGUSR1 that it is sent at a reload."""

    def changes(self) -> dict[str, str]:
        return {**super().changes(), "hard-stop-after 30s": "hard-stop-after 1s"}

    def reload(self, client: Subscriber) -> None:
        """What the master process does, whose next process serves while the old one ends its streams."""
        os.kill(self.pid, signal.SIGUSR1)
        client.wait_end()
        self.wait()
        self.start()


class ReloadedNginx(Nginx):
    """An nginx whose old streams have one second at a reload."""

    def __init__(self, directory: Path, server: SseServer) -> None:
        (line,) = re.findall(r"`(worker_shutdown_timeout 30s;)`", page_path("proxies.md").read_text())
        site = f"location /sse/ {{ proxy_pass {server.url}/; proxy_http_version 1.1; proxy_buffering off; }}"
        super().__init__(directory, f"server {{ listen 127.0.0.1:{{port}}; {site} }}")
        self.config.write_text(line.replace("30s", "1s") + self.config.read_text())

    def reload(self, client: Subscriber) -> None:
        """Until the old worker has cut off this client."""
        os.kill(self.pid, signal.SIGHUP)
        client.wait_end()


@pytest.mark.parametrize("kind", [ReloadedHAProxy, ReloadedNginx])
def test_a_reload_cuts_off_old_streams_and_they_resume(
    tmp_path: Path, daemon: SseServer, kind: type[ReloadedHAProxy | ReloadedNginx]
) -> None:
    with kind(tmp_path, daemon) as proxy, Subscriber(proxy.url, "reload", path="/sse/") as client:
        client.wait_open()
        publish(daemon.url, "reload", "1")
        assert client.data(1) == ["1"]
        proxy.reload(client)
        publish(daemon.url, "reload", "2")
        with Subscriber(proxy.url, "reload", client.last_event_id, path="/sse/") as again:
            assert again.data(1) == ["2"]


def test_a_silence_of_35_seconds(daemon: SseServer, fronts: Fronts) -> None:
    """In real time, for all at once, and last in this file: the silences began with the first tests."""
    for kind in KINDS:
        fronts.of(kind)
    for kind, (client, began) in fronts.silent.items():
        until(lambda began=began: time.monotonic() - began > 35, "35 seconds")  # type: ignore[misc]
        publish(daemon.url, f"silent-{kind.name}", "1")
        assert client.data(1) == ["1"]
        assert "sse ping" in client.comments
