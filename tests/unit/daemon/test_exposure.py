"""What the operator is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.daemon.exposure import warnings
from cyclone_sse.options import with_defaults


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, []),
        ({"listen": "127.0.0.9"}, []),
        ({"listen": "::1"}, []),
        ({"listen": "localhost"}, []),
        ({"listen": "0.0.0.0"}, ["--http-secret"]),
        ({"listen": ""}, ["--http-secret"]),
        ({"listen": "::"}, ["--http-secret"]),
        ({"listen": "192.0.2.1", "http-secret": "x"}, []),
        ({"listen": "192.0.2.1", "auth-url": "http://x"}, []),
        ({"listen": "192.0.2.1", "jwt-secret": "x"}, []),
        ({"listen": "192.0.2.1", "jwt-keys": "x"}, []),
        ({"listen": "192.0.2.1", "app": "custom.App"}, []),
        ({"listen": "0.0.0.0", "port": 0}, []),
        ({"use-ssl": True, "ssl-listen": "0.0.0.0"}, ["--http-secret"]),
        ({"listen": "0.0.0.0", "endpoint": ("unix:/run/x.sock",)}, []),
        ({"endpoint": ("tcp:8888:interface=127.0.0.1",)}, []),
        ({"endpoint": (r"tcp:8888:interface=\:\:1:backlog=5",)}, []),
        ({"endpoint": (r"tcp:8888:interface=\:\:",)}, ["--http-secret"]),
        ({"endpoint": ("unix:x", "tcp:8888")}, ["--http-secret"]),
        ({"endpoint": ("systemd:domain=INET:index=0",)}, ["--http-secret"]),
        ({"broker": "redis", "patterns": True}, ["--patterns"]),
        ({"broker": "redis", "patterns": True, "jwt-secret": "x"}, []),
        ({"patterns": True}, []),
        ({"broker": "redis-stream", "patterns": True}, []),
        ({"broker": "redis", "listen": "::"}, ["may hear every channel"]),
        ({"broker": "redis", "listen": "::", "http-publish": True}, ["may publish, and hear every channel"]),
        ({"cors-origin": ("https://a.example", "null")}, ["--cors-origin=null"]),
    ],
)
def test_warnings(settings: dict[str, Any], words: list[str]) -> None:
    lines = warnings(with_defaults(settings))
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
