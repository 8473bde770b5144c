"""URLs of brokers, read to the options that they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.broker_urls import amqp_url, redis_url
from cyclone_sse.options import with_defaults


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://r.example", {"redis-host": "r.example", "redis-port": 6379, "redis-tls": False}),
        (
            "rediss://ann:p%40ss@r.example:7000/3",
            {
                "redis-host": "r.example",
                "redis-port": 7000,
                "redis-tls": True,
                "redis-username": "ann",
                "redis-password": "p@ss",
                "redis-db": 3,
            },
        ),
        (
            "redis://:secret@[::1]/",
            {"redis-host": "::1", "redis-port": 6379, "redis-tls": False, "redis-password": "secret"},
        ),
        (
            "redis://r.example?db=2",
            {"redis-host": "r.example", "redis-port": 6379, "redis-tls": False, "redis-db": 2},
        ),
        (
            "rediss://r.example/4?timeout=1&db=2",
            {"redis-host": "r.example", "redis-port": 6379, "redis-tls": True, "redis-db": 2},
        ),
        (
            "unix:///run/redis.sock?db=2",
            {"redis-socket": "/run/redis.sock", "redis-tls": False, "redis-db": 2},
        ),
    ],
)
def test_redis(url: str, expected: dict[str, Any]) -> None:
    assert redis_url(url) == expected
    assert with_defaults({"redis-url": redis_url(url), "redis-port": 1}).items() >= expected.items()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://", None),
        ("amqp://q.example", {"amqp-host": "q.example", "amqp-port": 5672, "amqp-tls": False}),
        (
            "amqps://ann:x@q.example/%2Fmine",
            {
                "amqp-host": "q.example",
                "amqp-port": 5671,
                "amqp-tls": True,
                "amqp-username": "ann",
                "amqp-password": "x",
                "amqp-vhost": "/mine",
            },
        ),
        ("redis://q.example", None),
    ],
)
def test_amqp(url: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"URL|expected"):
            amqp_url(url)
    else:
        assert amqp_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "r.example",
        "http://r",
        "redis://:secret@",
        "redis://:secret@h:x",
        "redis://h/a",
        "unix://host",
        "unix:x",
    ],
)
def test_a_mistake_does_not_show_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(?!.*secret)"):
        redis_url(url)
