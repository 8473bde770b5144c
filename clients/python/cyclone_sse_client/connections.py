"""Persistent HTTP connections to one server, which several threads may use at once.

A thread uses an idle connection or opens one, and returns it after the answer: a single thread uses one
connection for all its calls.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from collections import deque
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

MOST_IDLE = 8

_Idle = deque[http.client.HTTPConnection]

_PATH = re.compile("[!-~]*")


def server_name(url: str) -> str:
    """The URL as error messages show it: without a password, a query, or a slash at the end."""
    where = urlsplit(url)
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path.rstrip('/')}" if where.netloc else url


def split_url(url: str) -> SplitResult:
    """The parts of a server's URL: http, https, or ``unix:/path/to/socket``. ValueError if it is none.

    Without these checks, each connection would fail, and a subscription would try forever.
    """
    where = urlsplit(url)
    if where.scheme not in ("http", "https", "unix") or not (where.hostname or where.scheme == "unix"):
        raise ValueError(f"not a URL of a server: {url!r}")
    _ = where.port  # raises ValueError
    if where.scheme != "unix" and not _PATH.fullmatch(where.path):
        raise ValueError(f"percent-encode what is no visible ASCII character in the path of {url!r}")
    return where


class Connections:
    """Connections to the server at ``url``: http, https, or ``unix:/path/to/socket``."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self._where = where = split_url(url)
        self._context = context
        self._kept: tuple[int, _Idle] = (os.getpid(), deque())
        self.server = server_name(url)
        self.prefix = "" if where.scheme == "unix" else where.path.rstrip("/")

    def open(self, timeout: float) -> http.client.HTTPConnection:
        """A new connection, which connects at its first request."""
        if self._where.scheme == "unix":
            return _UnixConnection(self._where.path, timeout)
        # Without a port, http.client would take the end of an IPv6 address for one.
        host, port = self._where.hostname or "", self._where.port
        if self._where.scheme == "https":
            return http.client.HTTPSConnection(host, port or 443, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(host, port or 80, timeout=timeout)

    def pop_idle(self, timeout: float) -> http.client.HTTPConnection | None:
        """An idle connection, or None. The server may have closed it."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def keep(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose answer has been read to the end."""
        idle = self._idle
        if connection.sock is None or len(idle) >= MOST_IDLE:
            connection.close()
        else:
            idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; the next call opens one."""
        with suppress(IndexError):  # there are no more
            while True:
                self._idle.pop().close()

    @property
    def _idle(self) -> _Idle:
        """The idle connections of this process; those of its parent are closed.

        Without this, two processes after a fork (gunicorn --preload) would read each other's answers.
        """
        process, idle = self._kept
        if process == os.getpid():
            return idle
        self._kept = (os.getpid(), deque())
        for inherited in list(idle):
            inherited.close()
        return self._kept[1]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
