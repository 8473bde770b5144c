"""An application behind ``--auth-url``: it notes what it is asked, and answers as the test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Question:
    """One request to it."""

    channels: list[str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What it answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class _UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


class AskedApplication:
    """Listens on a free port, or on a UNIX socket.

    decide: called in a thread of its own for each question. socket: the path of the UNIX socket. tls: for
    https.
    """

    def __init__(
        self,
        decide: Callable[[Question], Reply],
        socket: Path | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.questions: list[Question] = []
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self._lock = threading.Lock()
        application = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                application.connections += 1

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                channels = parse_qs(parts.query).get("channels", [])
                question = Question(channels, dict(self.headers.items()), body)
                with application._lock:
                    application.questions.append(question)
                    application.under_way += 1
                    application.most_under_way = max(application.most_under_way, application.under_way)
                try:
                    reply = decide(question)
                finally:
                    with application._lock:
                        application.under_way -= 1
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:
                    self.close_connection = True  # the server did not wait

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._socket = socket
        self._server = (
            ThreadingHTTPServer(("127.0.0.1", port), Handler)
            if socket is None
            else _UnixServer(str(socket), Handler)  # type: ignore[arg-type]
        )
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            listener = self._server.socket
            self._server.socket = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """What --auth-url is to be."""
        if self._socket is not None:
            return f"unix:{self._socket}:/sse-auth"
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/sse-auth"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
