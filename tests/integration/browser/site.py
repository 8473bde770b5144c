"""The web site around the daemon, as a browser sees it: pages, scripts, and the daemon behind the path /sse/.

The relay to the daemon stands for the network between the two: it can stop passing anything, and come back.
It is not nginx, since nginx answers 502 when the daemon is away, where a broken network answers nothing.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness import evidence
from tests.harness.docs import html
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, left_out

JQUERIES = {
    "1.7.2": "jquery-1/tmp/jquery.js",
    "3.x": "jquery-3/dist/jquery.js",
    "4.x": "jquery-4/dist/jquery.js",
}
OTHERS = ["axe-core", "esbuild", "eventsource", "terser", "typescript"]  # of tests/package.json
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds


def node_modules() -> Path:
    """The folder with the npm packages of tests/package.json, which `make test` installs."""
    folder = ROOT / "tests" / "node_modules"
    if not all((folder / path).exists() for path in (*JQUERIES.values(), *OTHERS)):
        left_out("the npm packages of tests/package.json are not installed")
    return folder


def example_page(script: str, jquery: str) -> str:
    """The example page of docs/jquery.md that uses `script`, word for word but for the address of jQuery."""
    pages = [page for page in html("jquery.md") if f"/{script}" in page]
    assert len(pages) == 1, f"{len(pages)} example pages with {script}"
    page, replaced = re.subn(r'src="https?://[^"]*jquery[^"]*"', f'src="/jquery/{jquery}.js"', pages[0])
    assert replaced == 1, f"jQuery is not loaded once in the page with {script}"
    return page


def bare_page(script: str, jquery: str = "4.x", body: str = "") -> str:
    """A page with all three plugins, `body`, and then `script`, which has a list `seen` to note things in."""
    sources = [f"/jquery/{jquery}.js", "/media/jquery.eventsource.js"]
    sources += ["/media/jquery.sse.js", "/media/jquery.sse.simple.js"]
    load = "\n".join(f'<script src="{source}"></script>' for source in sources)
    return (
        f'<!DOCTYPE html><html lang="en"><head><title>Test</title>{load}</head>\n'
        f"<body>{body}<script>var seen = [];\n{script}</script></body></html>"
    )


def module_page(script: str) -> str:
    """A page that runs `script` with `connect` from the module; `seen` is a list to note things in."""
    return (
        '<!DOCTYPE html><html lang="en"><head><title>Test</title></head><body><script type="module">\n'
        "import {connect} from '/media/cyclone-sse.js';\nwindow.connect = connect; window.seen = [];\n"
        f"{script}</script></body></html>"
    )


class Site:
    """Serves `pages` (path to text), /media/, /jquery/<version>.js, and relays /sse/ to `backend_port`.

    `answers` (path to a list of status, type and body) are given one after another, then 502; with
    `retry_after` these answers have that header.
    With `buffers` an answer of the daemon is passed on when it is complete, as some proxies do it. With
    `limit` the next answer stops after so many bytes, and its connection stays open.
    """

    def __init__(self, backend_port: int = 0) -> None:
        self.pages: dict[str, str] = {}
        self.backend_port = backend_port
        self.answers: dict[str, list[tuple[int, str, str]]] = {}
        self.requests: list[str] = []
        self.passing = True
        self.buffers = False
        self.limit: int | None = None
        self.retry_after = ""
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        site = self

        class Handler(_Handler):
            pass

        Handler.site = site
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """The site's origin."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def cut(self) -> None:
        """Pass nothing more, in either direction, and let both sides wait in vain."""
        self.passing = False

    def heal(self) -> None:
        """Pass again: connections from before are reset, as by a gateway that has forgotten them."""
        with self._lock:
            for end in self._ends:
                with suppress(OSError):  # the other end has closed it already
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    end.shutdown(socket.SHUT_RDWR)
            self._ends.clear()
        self.passing = True

    def relay(self, browser: socket.socket, head: bytes) -> None:
        """Hand a request to the daemon and its answer back, until one of them closes."""
        try:
            daemon = socket.create_connection(("127.0.0.1", self.backend_port), timeout=PATIENCE)
        except OSError:
            return  # no server: the browser's connection closes without an answer
        pair = {browser: daemon, daemon: browser}
        held = b""
        left, self.limit = self.limit, None
        with self._lock:
            self._ends.update(pair)
        try:
            daemon.sendall(head)
            while True:
                readable, _, _ = select.select(list(pair) if self.passing else [], [], [], 0.02)
                for end in readable if self.passing else []:
                    received = end.recv(65536)
                    if not received:
                        browser.sendall(held)
                        return
                    if self.buffers and end is daemon:
                        held += received
                    elif left is not None and end is daemon:
                        browser.sendall(received[:left])
                        left = max(0, left - len(received))
                    else:
                        pair[end].sendall(received)
                if browser not in self._ends:
                    return
        except OSError:
            return
        finally:
            with self._lock:
                self._ends.difference_update(pair)
            daemon.close()

    def __enter__(self) -> Self:
        evidence.offer(self, f"requests to {self.url}", lambda: "\n".join(self.requests))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        evidence.withdraw(self)
        self.heal()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.requests.append(self.path)
        if path.startswith("/sse/"):
            self._relay()
        elif path in self.site.pages:
            self._send(self.site.pages[path].encode(), ".html")
        elif path in self.site.answers:
            status, kind, text = (self.site.answers[path] or [(502, "text/plain", "")]).pop(0)
            headers = {"Retry-After": self.site.retry_after} if self.site.retry_after else {}
            self._answer(status, kind, text.encode(), headers)
        elif path.startswith("/media/"):
            self._send_file(ROOT / path[1:])
        elif path.startswith("/jquery/"):
            self._send_file(node_modules() / JQUERIES[path.removeprefix("/jquery/").removesuffix(".js")])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        self._relay()

    def do_HEAD(self) -> None:
        self.site.requests.append(self.path)
        self._relay()

    def do_OPTIONS(self) -> None:
        self._relay()

    def _relay(self) -> None:
        self.close_connection = True
        lines = [f"{self.command} {self.path.removeprefix('/sse')} HTTP/1.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "connection"]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.site.relay(self.connection, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _send_file(self, path: Path) -> None:
        if path.is_file():
            self._send(path.read_bytes(), path.suffix)
        else:
            self.send_error(404)

    def _send(self, body: bytes, suffix: str) -> None:
        self._answer(200, KINDS[suffix], body)

    def _answer(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
