"""Broker URLs, as hosting services provide them: ``rediss://user:password@host:port/0``, ``amqps://...``.

A URL is turned into the values of the single options, and takes precedence over them. Plain Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

_REDIS_PORT, _AMQP_PORTS = 6379, {"amqp": 5672, "amqps": 5671}


def redis_url(value: str) -> Mapping[str, Any]:
    """The options in a URL ``redis://``, ``rediss://`` (TLS) or ``unix:///path``.

    User, password and the number of the database may be missing. The number may also be the parameter ``db``;
    other parameters are left alone. Raises ValueError, without the password.
    """
    parts = _split(value)
    options: dict[str, Any] = {**_login("redis", parts), "redis-tls": parts.scheme == "rediss"}
    database = dict(pair.partition("=")[::2] for pair in parts.query.split("&")).get("db", "")
    if parts.scheme == "unix":
        options["redis-socket"] = unquote(parts.path)
        if not parts.path.startswith("/"):
            raise ValueError("expected unix:///path/of.sock")
    elif parts.scheme in ("redis", "rediss"):
        database = database or parts.path.strip("/")
        options |= _server("redis", parts, _REDIS_PORT)
    else:
        raise ValueError("expected redis://, rediss:// or unix:// and a server")
    if database:
        if not (database.isascii() and database.isdecimal()):
            raise ValueError("the database is not a number")
        options["redis-db"] = int(database)
    return options


def amqp_url(value: str) -> Mapping[str, Any]:
    """The options in a URL ``amqp://`` or ``amqps://`` (TLS), whose path is the virtual host.

    Raises ValueError, without the password.
    """
    parts = _split(value)
    if parts.scheme not in _AMQP_PORTS:
        raise ValueError("expected amqp:// or amqps:// and a server")
    options: dict[str, Any] = {**_login("amqp", parts), "amqp-tls": parts.scheme == "amqps"}
    options |= _server("amqp", parts, _AMQP_PORTS[parts.scheme])
    if len(parts.path) > 1:  # "/" alone, as no path at all, is the default (RabbitMQ, "URI Specification")
        options["amqp-vhost"] = unquote(parts.path[1:])
    return options


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    return parts


def _server(broker: str, parts: SplitResult, port: int) -> dict[str, Any]:
    if not parts.hostname:
        raise ValueError("the URL names no server")
    return {f"{broker}-host": parts.hostname, f"{broker}-port": parts.port or port}


def _login(broker: str, parts: SplitResult) -> dict[str, Any]:
    login = {"username": parts.username, "password": parts.password}
    return {f"{broker}-{name}": unquote(given) for name, given in login.items() if given}
