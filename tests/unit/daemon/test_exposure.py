"""The warnings to the operator about who may publish and subscribe."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.daemon.exposure import publishers, subscribers, warnings
from cyclone_sse.options import with_defaults

PUBLISH, SUBSCRIBE = "any client may publish", "any client may subscribe"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, [PUBLISH, SUBSCRIBE]),
        ({"listen": "127.0.0.9"}, [PUBLISH, SUBSCRIBE]),
        ({"listen": "0.0.0.0"}, [PUBLISH, SUBSCRIBE]),
        ({"endpoint": ("unix:/run/x.sock",)}, [PUBLISH, SUBSCRIBE]),
        ({"http-secret": "x"}, []),
        (
            {"http-secret": "x", "broker": "redis-stream", "redis-prefix": "x"},
            ["--redis-prefix has no effect"],
        ),
        ({"http-secret": "x", "broker": "redis", "redis-prefix": "x"}, []),
        ({"http-secret-file": "x"}, []),
        ({"auth-url": "http://x"}, []),  # publishing is closed until it has a key, or is opened
        ({"auth-url": "http://x", "http-publish": True}, [PUBLISH]),
        ({"auth-url": "http://x", "http-secret": "x"}, []),
        ({"auth-url": "http://x", "http-publish": False}, []),
        ({"jwt-secret": "x"}, []),
        ({"jwt-keys": "x"}, []),
        ({"app": "custom.App"}, []),
        ({"broker": "redis"}, [SUBSCRIBE]),
        ({"broker": "redis", "http-publish": True}, [PUBLISH, SUBSCRIBE]),
        ({"broker": "redis", "patterns": True, "http-secret": "x"}, ["--patterns"]),
        ({"broker": "redis", "patterns": True, "jwt-secret": "x"}, []),
        ({"http-secret": "x", "patterns": True}, []),
        ({"http-secret": "x", "public": ("news", "a-*")}, ["--public=news,a-* has no effect"]),
        ({"http-secret": "x", "public": ("news",), "auth-url": "http://x"}, []),
        ({"public": ("news",), "jwt-keys": "x"}, []),
        ({"http-secret": "x", "cors-origin": ("https://a.example", "null")}, ["--cors-origin=null"]),
    ],
)
def test_warnings(settings: dict[str, Any], words: list[str]) -> None:
    lines = warnings(with_defaults(settings))
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


@pytest.mark.parametrize(
    ("settings", "subscribe", "publish"),
    [
        ({}, "any client", "any client"),
        ({"broker": "amqp"}, "any client", "no client (--http-publish=1 enables it)"),
        ({"app": "mine.App"}, "as mine.App decides", "as mine.App decides"),
        ({"http-secret": "hush"}, "any client", "with --http-secret"),
        ({"jwt-secret": "hush"}, "with --jwt-secret", "with --jwt-secret"),
        (
            {"auth-url": "http://x", "public": ("news", "news.*"), "http-secret": "hush"},
            "with --auth-url; any client to news,news.*",
            "with --http-secret",
        ),
    ],
)
def test_who_may_do_what_in_words(settings: dict[str, Any], subscribe: str, publish: str) -> None:
    assert subscribers(with_defaults(settings)) == subscribe
    assert publishers(with_defaults(settings)) == publish
